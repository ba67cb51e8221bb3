/** Models as Hugging Face folders, in and out: config.json, model.safetensors or its shards, and what else belongs to a model. */
export { loadConfig, loadDecoder, loadTensors, loadWeights } from "./load-model.ts";
export { saveModelFolder, type SaveModelOptions } from "./save-model.ts";
export { saveTensors, type FloatDtype, type SaveTensorsOptions } from "./save-tensors.ts";
