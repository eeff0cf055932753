import type { AddressInfo } from "node:net";
import { createClient, type Transport } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import Fastify, { type FastifyInstance } from "fastify";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import type { Wire } from "../variants.ts";
import { addHandlers, callBy } from "./connect-calls.ts";
import type { Peer } from "./peer.ts";

/** Connect on Fastify with its own plugin and transports; options are those that come with them. */
export const stock: Peer = {
  async startServer({ http }) {
    // Fastify's types know one HTTP version at a time.
    const fastify = http === "2" ? (Fastify({ http2: true }) as unknown as FastifyInstance) : Fastify();
    await fastify.register(fastifyConnectPlugin, { routes: addHandlers });
    await fastify.listen({ host: "127.0.0.1", port: 0 });
    return (fastify.server.address() as AddressInfo).port;
  },

  createClient(port, wire) {
    const transport = transportTo(`http://127.0.0.1:${port}`, wire);
    return callBy(createClient(UserService, transport), createClient(OrderService, transport));
  },
};

function transportTo(baseUrl: string, { protocol, http }: Wire): Transport {
  if (protocol === "grpc") return createGrpcTransport({ baseUrl });
  const create = protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  return create({ baseUrl, httpVersion: http });
}
