import { AsyncLocalStorage } from "node:async_hooks";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import type { ConnectBackoff } from "../../connections/connect-backoff.ts";

/** Follows what a peer says of its own health. */
export interface HealthWatch {
  /** There is a connection. */
  start(): void;
  /** There is none any more. */
  stop(): void;
}

export interface HealthWatchOptions {
  /** To this one peer. */
  readonly transport: Transport;
  /** What the peer is asked about; "" is the whole server. */
  readonly service: string;
  readonly backoff: ConnectBackoff;
  /** `unwatched`: the peer does not tell, and counts as healthy. */
  readonly onHealth: (health: "unknown" | "serving" | "not_serving" | "unwatched", cause?: ConnectError) => void;
}

/**
 * gRFC A17: `grpc.health.v1.Health/Watch` for as long as there is a connection. A peer that does not implement it is
 * healthy; when the watch fails otherwise, the peer is not, until a further one tells.
 */
export function createHealthWatch({ transport, service, backoff, onHealth }: HealthWatchOptions): HealthWatch {
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const client = createClient(Health, transport);
  let watching: AbortController | undefined;
  let retryTimer: NodeJS.Timeout | undefined;

  async function watch({ signal }: AbortController): Promise<void> {
    try {
      for await (const { status } of client.watch({ service }, { signal, timeoutMs: 0 })) {
        if (signal.aborted) return;
        backoff.reset();
        onHealth(status === HealthCheckResponse_ServingStatus.SERVING ? "serving" : "not_serving");
      }
      throw new ConnectError("the peer has ended the health watch", Code.Unavailable);
    } catch (error) {
      if (signal.aborted) return;
      const cause = ConnectError.from(error);
      if (cause.code === Code.Unimplemented) {
        onHealth("unwatched", cause);
        return;
      }
      onHealth("not_serving", cause);
      retryTimer = setTimeout(begin, backoff.nextDelayMs()).unref();
    }
  }

  function begin(): void {
    watching = new AbortController();
    void watch(watching);
  }

  return {
    start() {
      if (watching !== undefined) return;
      onHealth("unknown");
      outsideOfCalls(begin);
    },
    stop() {
      if (watching === undefined) return;
      clearTimeout(retryTimer);
      watching.abort();
      watching = undefined;
      // What it has said is over with the connection.
      onHealth("unknown");
    },
  };
}
