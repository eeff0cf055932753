import { decodePageToken, encodePageToken } from "#shared/database";
import type { Order, OrderRepository } from "./orders.ts";

/** For tests. It keeps the contract in repository.test.ts, and announces nothing. */
export function createMemoryRepository(): OrderRepository {
  /** Newest first. */
  const orders: Order[] = [];
  const idByRequestId = new Map<string, string>();
  const find = async (id: string) => orders.find((order) => order.id === id);
  const findByRequestId = async (requestId: string) => find(idByRequestId.get(requestId) ?? "");
  return {
    async create(order, requestId) {
      const firstId = idByRequestId.get(requestId);
      if (firstId !== undefined) return orders.find(({ id }) => id === firstId) ?? order;
      orders.unshift(order);
      idByRequestId.set(requestId, order.id);
      return order;
    },
    find,
    findByRequestId,
    async list({ size, token, userId }) {
      const list = userId === undefined ? "orders" : `orders user=${userId}`;
      const [from] = decodePageToken(list, token, ["int4"]) ?? [0];
      const found = orders.filter((order) => userId === undefined || order.userId === userId);
      const to = from + size;
      return { orders: found.slice(from, to), nextToken: to < found.length ? encodePageToken(list, [to]) : "" };
    },
    async settle(id, settlement) {
      const index = orders.findIndex((order) => order.id === id);
      const order = orders[index];
      if (order?.status !== "PENDING") return false;
      orders[index] = { ...order, ...settlement, updatedAt: new Date() };
      return true;
    },
    announceCancelled: async (id) => (await find(id))?.status === "CANCELLED",
  };
}
