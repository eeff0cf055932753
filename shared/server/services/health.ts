import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import type { Readiness } from "#shared/lifecycle";

export interface HealthOptions {
  readonly readiness: Readiness;
  /** Fully qualified names of the services that this server serves. */
  readonly services: readonly string[];
  /** Ends open watches, with UNAVAILABLE as its reason says, so that they do not hold a shutdown. */
  readonly closing: AbortSignal;
}

/**
 * grpc.health.v1: every service, and "" for the server as a whole, serves while the app is ready.
 * Unknown names: Check fails with NOT_FOUND, Watch answers SERVICE_UNKNOWN and stays open, as the protocol says
 * (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
 */
export function addHealth(router: ConnectRouter, { readiness, services, closing }: HealthOptions): void {
  const statusOf = (service: string) => {
    if (service !== "" && !services.includes(service)) return ServingStatus.SERVICE_UNKNOWN;
    return readiness.state().ready ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  };

  router.service(Health, {
    check({ service }) {
      const status = statusOf(service);
      if (status === ServingStatus.SERVICE_UNKNOWN) {
        throw new ConnectError(`unknown service ${JSON.stringify(service)}`, Code.NotFound);
      }
      return { status };
    },

    list() {
      return { statuses: Object.fromEntries(["", ...services].map((name) => [name, { status: statusOf(name) }])) };
    },

    async *watch({ service }, { signal }) {
      let changed = Promise.withResolvers<void>();
      const wake = () => changed.resolve();
      const unsubscribe = readiness.subscribe(wake);
      signal.addEventListener("abort", wake);
      closing.addEventListener("abort", wake);
      try {
        let last: ServingStatus | undefined;
        while (!signal.aborted) {
          changed = Promise.withResolvers<void>();
          const status = statusOf(service);
          if (status !== last) yield { status };
          last = status;
          if (closing.aborted) throw closing.reason;
          if (statusOf(service) === last) await changed.promise;
        }
      } finally {
        unsubscribe();
        signal.removeEventListener("abort", wake);
        closing.removeEventListener("abort", wake);
      }
    },
  });
}
