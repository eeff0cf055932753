import type { DescMethod } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  createConnectRouter,
  createMethodImplSpec,
  createServiceImplSpec,
  type MethodImplSpec,
} from "@connectrpc/connect";

export interface RecordedMethods {
  /** Takes the registrations. */
  readonly router: ConnectRouter;
  /** The methods that were registered, but those with options of their own, which only Connect's handlers know. */
  readonly methods: ReadonlyMap<DescMethod, MethodImplSpec>;
  /** Makes the same registrations at another router. */
  replay(target: ConnectRouter): void;
}

/** Connect's router keeps to itself what it was given; this one remembers the implementations. */
export function recordMethods(): RecordedMethods {
  const methods = new Map<DescMethod, MethodImplSpec>();
  const registrations: ((target: ConnectRouter) => unknown)[] = [];
  const inner = createConnectRouter();
  function register(registration: (target: ConnectRouter) => unknown): void {
    registration(inner);
    registrations.push(registration);
  }
  const router: ConnectRouter = {
    handlers: inner.handlers,
    service(service, implementation, options) {
      register((target) => target.service(service, implementation, options));
      for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) record(spec, options);
      return router;
    },
    rpc(method, implementation, options) {
      register((target) => target.rpc(method, implementation, options));
      record(createMethodImplSpec(method, implementation), options);
      return router;
    },
  };

  // The last registration of a method holds, as in Fastify none would be taken twice.
  function record(spec: MethodImplSpec, options: unknown): void {
    if (options === undefined) methods.set(spec.method, spec);
    else methods.delete(spec.method);
  }

  return {
    router,
    methods,
    replay(target) {
      for (const registration of registrations) registration(target);
    },
  };
}
