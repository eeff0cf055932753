import type { DescMethod, DescMethodUnary } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  createMethodImplSpec,
  createServiceImplSpec,
  type MethodImplSpec,
} from "@connectrpc/connect";

export type UnaryImplementation = MethodImplSpec & { readonly kind: "unary" };

export type StreamImplementation = Exclude<MethodImplSpec, { readonly kind: "unary" }>;

export interface RecordedMethods {
  /** Registers with the router that it stands for. */
  readonly router: ConnectRouter;
  /** The unary methods that were registered, but those with options of their own. */
  readonly unary: ReadonlyMap<DescMethod, UnaryImplementation>;
  /** The streaming methods, likewise. */
  readonly streams: ReadonlyMap<DescMethod, StreamImplementation>;
}

/** Connect's router keeps to itself what it was given; this one hands it on and remembers the implementations. */
export function recordMethods(target: ConnectRouter): RecordedMethods {
  const unary = new Map<DescMethod, UnaryImplementation>();
  const streams = new Map<DescMethod, StreamImplementation>();
  function record(spec: MethodImplSpec): void {
    if (spec.kind === "unary") unary.set(spec.method as DescMethodUnary, spec);
    else streams.set(spec.method, spec);
  }
  const router: ConnectRouter = {
    handlers: target.handlers,
    service(service, implementation, options) {
      target.service(service, implementation, options);
      if (options === undefined) {
        for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) record(spec);
      }
      return router;
    },
    rpc(method, implementation, options) {
      target.rpc(method, implementation, options);
      if (options === undefined) record(createMethodImplSpec(method, implementation));
      return router;
    },
  };
  return { router, unary, streams };
}
