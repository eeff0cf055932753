import type { Client, ConnectRouter } from "@connectrpc/connect";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { greet, MESSAGES_A_STREAM, orderMessage } from "./answers.ts";
import type { PeerClient } from "./peer.ts";

/** The handlers of stock Connect and of Meridian: the same code. */
export function addHandlers(router: ConnectRouter): void {
  router.service(UserService, { sayHello: ({ name }) => ({ message: greet(name) }) });
  router.service(OrderService, {
    async *watchOrder() {
      for (let sent = 0; sent < MESSAGES_A_STREAM; sent++) yield orderMessage;
    },
  });
}

/** The calls of both, by Connect's clients. */
export function callBy(users: Client<typeof UserService>, orders: Client<typeof OrderService>): PeerClient {
  return {
    async sayHello(name) {
      const { message } = await users.sayHello({ name });
      return message;
    },
    async watchOrder(id) {
      let messages = 0;
      for await (const _ of orders.watchOrder({ id })) messages++;
      return messages;
    },
  };
}
