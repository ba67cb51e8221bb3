/** Compiles the kernels into `dist/kernels/`; `ifChanged` builds only what is older than its sources. Resolves to the files written. */
export function buildKernels(options?: { ifChanged?: boolean; log?: (line: string) => void }): Promise<string[]>;
