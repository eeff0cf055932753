import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "#shared/logging";
import type { Admission } from "../shedding/admission.ts";
import { accessLogInterceptor } from "./access-log.ts";
import { callContextInterceptor } from "./call-context.ts";
import { cancellationInterceptor } from "./cancellation.ts";
import { errorMappingInterceptor } from "./error-mapping.ts";
import { sheddingInterceptor } from "./shedding.ts";
import { validationInterceptor } from "./validation.ts";

export interface InterceptorsOptions {
  readonly logger: Logger;
  /** What gives error reasons their meaning: the service's name. */
  readonly domain: string;
  /** Which calls come in. Undefined: all. */
  readonly admission?: Admission | undefined;
  /** Whether requests are held against their protovalidate rules. */
  readonly validate: boolean;
  /** The service's own, innermost. */
  readonly own: readonly Interceptor[];
}

/**
 * What every call passes through, from the outside in. The context comes first, so that every line of the log has the
 * call's ids; the access log next, so that it sees what the caller sees; the mapping is outside of all that throws.
 */
export function serverInterceptors({ logger, domain, admission, validate, own }: InterceptorsOptions): Interceptor[] {
  return [
    callContextInterceptor,
    accessLogInterceptor(logger),
    cancellationInterceptor,
    errorMappingInterceptor(logger, domain),
    ...(admission === undefined ? [] : [sheddingInterceptor(admission)]),
    ...(validate ? [validationInterceptor] : []),
    ...own,
  ];
}
