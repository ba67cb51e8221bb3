/** Bits of GPUBufferUsage and GPUMapMode, which Node does not have as globals. Source: WebGPU, sections 5.1.2 and 5.2. */
export const bufferUsage = { mapRead: 1, copySrc: 4, copyDst: 8, uniform: 64, storage: 128 } as const;
export const mapRead = 1;
/** GPUShaderStage.COMPUTE */
export const computeStage = 4;
