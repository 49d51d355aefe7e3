export type { AutoParser } from './auto.ts'
export { createAuto, createPreset, PRESET_NAMES, PRESETS, type Preset } from './presets.ts'
