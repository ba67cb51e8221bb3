/** A GPU that is not what it seems: more features than the adapter has, or WGSL that is changed on its way to the compiler. */
import type { MatrixConfig } from "../../src/device/webgpu/adapter.ts";

export interface Disguise {
  /** Features that it claims to have too. */
  readonly features?: readonly string[];
  readonly matrices?: readonly MatrixConfig[];
  /** WGSL with its prologue, as the compiler is to see it. */
  readonly change?: (code: string) => string;
  /** Is told of every device that is opened. */
  readonly onDevice?: (device: GPUDevice) => void;
}

export function disguised(gpu: GPU, { features = [], matrices, change = (code) => code, onDevice }: Disguise): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> => {
    const adapter = await gpu.requestAdapter(options);
    if (adapter === null) return null;
    const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs } =
      adapter.info as GPUAdapterInfo & {
        readonly subgroupMatrixConfigs?: readonly MatrixConfig[];
      };
    const info = {
      ...{ vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize },
      subgroupMatrixConfigs: matrices ?? subgroupMatrixConfigs,
    };
    const requestDevice = async (descriptor: GPUDeviceDescriptor): Promise<GPUDevice> => {
      const requiredFeatures = [...(descriptor.requiredFeatures ?? [])].filter((name) => adapter.features.has(name));
      const opened = await adapter.requestDevice({ ...descriptor, requiredFeatures });
      const make = opened.createShaderModule.bind(opened);
      opened.createShaderModule = (module) => make({ ...module, code: change(module.code) });
      onDevice?.(opened);
      return opened;
    };
    return { features: new Set([...adapter.features, ...features]), limits: adapter.limits, info, requestDevice } as unknown as GPUAdapter;
  };
  return { requestAdapter } as unknown as GPU;
}
