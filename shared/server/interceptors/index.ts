import type { Interceptor } from "@connectrpc/connect";
import { callContextInterceptor } from "./call-context.ts";
import { cancellationInterceptor } from "./cancellation.ts";
import { errorMappingInterceptor, type MapError } from "./error-mapping.ts";
import { sheddingInterceptor } from "./shedding.ts";
import { validationInterceptor } from "./validation.ts";

export interface InterceptorsOptions {
  readonly mapError: MapError;
  /** Whether calls take slots of a limit. */
  readonly sheds: boolean;
  /** Whether requests are held against their protovalidate rules. */
  readonly validate: boolean;
  /** The service's own, innermost. */
  readonly own: readonly Interceptor[];
}

/**
 * What every call passes through, from the outside in. The context comes first, so that every line of the log has the
 * call's ids; the mapping is outside of all that throws.
 */
export function serverInterceptors({ mapError, sheds, validate, own }: InterceptorsOptions): Interceptor[] {
  return [
    callContextInterceptor,
    cancellationInterceptor,
    errorMappingInterceptor(mapError),
    ...(sheds ? [sheddingInterceptor] : []),
    ...(validate ? [validationInterceptor] : []),
    ...own,
  ];
}
