export { createLifecycle, type Lifecycle, type LifecycleOptions, type LifecyclePart } from "./lifecycle.ts";
export {
  type ComponentReadiness,
  type ComponentState,
  createReadiness,
  type Readiness,
  type ReadinessState,
} from "./readiness.ts";
export { type App, type ReconfigurableApp, type RunOptions, type RunProcess, run } from "./run.ts";
export { type RunningCall, RunningCalls } from "./running-calls.ts";
export { type RestartWarningOptions, warnOfRestart } from "./warn-of-restart.ts";
