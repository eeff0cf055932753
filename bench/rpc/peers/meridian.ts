import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { createLogger, type LogConfig, logSection } from "#shared/logging";
import { createServer, serverSection } from "#shared/server";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { addHandlers, callBy } from "./connect-calls.ts";
import type { Peer } from "./peer.ts";

interface Policies {
  readonly validate: boolean;
  readonly logLevel: LogConfig["level"];
  /** Of the service, in the words of `grpc_clients`. */
  readonly service: Readonly<Record<string, unknown>>;
}

export const meridianBare: Peer = peerWith({
  validate: false,
  logLevel: "silent",
  service: {
    breaker: { enabled: false },
    outlier_ejection: { enabled: false },
    balancer: { policy: "pick_first" },
    keepalive: { time: "0" },
  },
});

/** Deadline, trace and request id are there in any case, here too; the log goes where each service's goes, to stdout. */
export const meridian: Peer = peerWith({
  validate: true,
  logLevel: "info",
  service: {
    timeout: "5s",
    retry: { max: 3, timeout: "10s", backoff: "50ms" },
    breaker: { enabled: true },
    outlier_ejection: { enabled: true },
    balancer: { policy: "least_request" },
    keepalive: { time: "1m" },
  },
});

const NAME = "bench";

function peerWith({ validate, logLevel, service }: Policies): Peer {
  const loggerOf = (name: string) => createLogger({ name, config: logSection.parse({ level: logLevel }) });
  return {
    async startServer() {
      const server = createServer({
        config: serverSection.parse({ name: NAME, host: "127.0.0.1", port: 0 }),
        logger: loggerOf(NAME),
        readiness: createReadiness(),
        routes: addHandlers,
        validate,
      });
      await server.start();
      return Number(new URL(server.url).port);
    },

    createClient(port, { protocol, http }) {
      const services = [{ name: NAME, address: `127.0.0.1:${port}`, protocol, http, ...service }];
      const config = grpcClientsSection.parse({ services });
      const pool = createTransportPool(config, { logger: loggerOf("caller"), caller: "caller" });
      return callBy(pool.client(NAME, UserService), pool.client(NAME, OrderService));
    },
  };
}
