# ZeroSearch in a container. Two images:
#
#   docker build --target cpu -t zerosearch .                                        docker build --target gpu -t zerosearch:gpu .
#   docker run --rm -v "$PWD:/work" zerosearch train                                 docker run --rm --gpus all -v "$PWD:/work" zerosearch:gpu train --device webgpu
#   docker run --rm -v "$PWD:/work" zerosearch ask "What is the capital of France?"  docker run --rm --gpus all zerosearch:gpu doctor
#
# Runs and states are written to /work; --user "$(id -u):$(id -g)" makes them one's own.

FROM node:22-bookworm-slim AS build
WORKDIR /build
# The packages first: they change less often than the code. None of them compiles or downloads anything when it is installed.
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM node:22-bookworm-slim AS cpu
# Below node_modules, as an installed package: it runs dist/, and needs no sources.
WORKDIR /usr/local/lib/node_modules/zerosearch
COPY --from=build /build/package.json /build/train.js /build/README.md /build/LICENSE ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/bin bin
COPY --from=build /build/dist dist
COPY --from=build /build/kernels kernels
COPY --from=build /build/configs configs
COPY --from=build /build/checkpoints/quickstart checkpoints/quickstart
COPY --from=build /build/bench/results bench/results
RUN ln -s /usr/local/lib/node_modules/zerosearch/bin/zerosearch.js /usr/local/bin/zerosearch
WORKDIR /work
ENTRYPOINT ["zerosearch"]
CMD ["--help"]

# Vulkan: its loader, and what NVIDIA's driver is linked with. The driver itself and its description come from the container runtime, which
# brings them where `graphics` is among the capabilities. For AMD and Intel: apt-get install mesa-vulkan-drivers, and --device /dev/dri.
FROM cpu AS gpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends libvulkan1 libx11-6 libxext6 libegl1 \
 && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility

# What `docker build` makes where no target is named.
FROM cpu
