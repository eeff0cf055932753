import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, inTransaction } from "#shared/database";
import type { CancelReason, Order, OrderItem, OrderRepository, OrderStatus, Settlement } from "./orders.ts";

export interface OrderTables {
  orders: {
    id: string;
    user_id: string;
    total_cents: bigint;
    status: OrderStatus;
    cancel_reason: CancelReason | null;
    request_id: string;
    created_at: Date;
    updated_at: Date;
  };
  order_items: {
    order_id: string;
    /** From 0, as the items were ordered. */
    position: number;
    book_id: string;
    title: string;
    quantity: number;
    unit_price_cents: bigint;
  };
}

type OrderRow = Selectable<OrderTables["orders"]>;
type ItemRow = Selectable<OrderTables["order_items"]>;

/** Publishes what happens to orders, in the transaction of the change. */
export interface OrderEvents {
  placed(tx: Transaction<OrderTables>, order: Order): Promise<void>;
  confirmed(tx: Transaction<OrderTables>, order: OrderIds): Promise<void>;
  cancelled(tx: Transaction<OrderTables>, order: CancelledOrder): Promise<void>;
}

export type OrderIds = Pick<Order, "id" | "userId">;

export interface CancelledOrder extends OrderIds {
  readonly reason: CancelReason;
  readonly items: readonly Pick<OrderItem, "bookId" | "quantity">[];
}

/** Publishes every change by `events`. On a transaction it works in that one. */
export function createOrderRepository(db: Kysely<OrderTables>, events: OrderEvents): OrderRepository {
  async function findBy(column: "id" | "request_id", value: string): Promise<Order | undefined> {
    const row = await db.selectFrom("orders").selectAll().where(column, "=", value).executeTakeFirst();
    return row && (await withItems([row]))[0];
  }

  /** A second query and no transaction: an order's items never change. */
  async function withItems(rows: readonly OrderRow[]): Promise<Order[]> {
    const ids = rows.map(({ id }) => id);
    const items = await db
      .selectFrom("order_items")
      .selectAll()
      .where("order_id", "=", sql<string>`any(${ids}::uuid[])`)
      .orderBy("position")
      .execute();
    const byOrder = Map.groupBy(items, (item) => item.order_id);
    return rows.map((row) => toOrder(row, byOrder.get(row.id) ?? []));
  }

  async function publishCancelled(
    tx: Transaction<OrderTables>,
    { id, user_id: userId }: Pick<OrderRow, "id" | "user_id">,
    reason: CancelReason,
  ): Promise<void> {
    const rows = await tx
      .selectFrom("order_items")
      .select(["book_id", "quantity"])
      .where("order_id", "=", id)
      .orderBy("position")
      .execute();
    const items = rows.map(({ book_id: bookId, quantity }) => ({ bookId, quantity }));
    await events.cancelled(tx, { id, userId, reason, items });
  }

  return {
    async create(order, requestId) {
      const isNew = await inTransaction(db, async (tx) => {
        // Another by the same request that is under way is waited for.
        const row = await tx
          .insertInto("orders")
          .values(toRow(order, requestId))
          .onConflict((conflict) => conflict.column("request_id").doNothing())
          .returning("id")
          .executeTakeFirst();
        if (row === undefined) return false;
        await tx
          .insertInto("order_items")
          .values(order.items.map(toItemRow(order.id)))
          .execute();
        await events.placed(tx, order);
        return true;
      });
      if (isNew) return order;
      const first = await findBy("request_id", requestId);
      if (first === undefined) throw new Error(`the order of the request ${requestId} is there and cannot be found`);
      return first;
    },

    async find(id) {
      return isUuid(id) ? findBy("id", id) : undefined;
    },

    findByRequestId: (requestId) => findBy("request_id", requestId),

    async settle(id, settlement) {
      if (!isUuid(id)) return false;
      return inTransaction(db, async (tx) => {
        const row = await tx
          .updateTable("orders")
          .set({ status: settlement.status, cancel_reason: cancelReasonOf(settlement), updated_at: new Date() })
          .where("id", "=", id)
          .where("status", "=", "PENDING")
          .returning(["id", "user_id"])
          .executeTakeFirst();
        if (row === undefined) return false;
        if (settlement.status === "CONFIRMED") await events.confirmed(tx, { id: row.id, userId: row.user_id });
        else await publishCancelled(tx, row, settlement.cancelReason);
        return true;
      });
    },

    async announceCancelled(id) {
      if (!isUuid(id)) return false;
      return inTransaction(db, async (tx) => {
        const row = await tx
          .selectFrom("orders")
          .select(["id", "user_id", "cancel_reason"])
          .where("id", "=", id)
          .where("status", "=", "CANCELLED")
          .executeTakeFirst();
        if (row === undefined) return false;
        await publishCancelled(tx, row, row.cancel_reason ?? "OUT_OF_STOCK");
        return true;
      });
    },

    async list({ size, token, userId }) {
      const list = userId === undefined ? "orders" : `orders user=${userId}`;
      const before = decodePageToken(list, token, ["uuid"]);
      if (userId !== undefined && !isUuid(userId)) return { orders: [], nextToken: "" };
      const rows = await db
        .selectFrom("orders")
        .selectAll()
        .$if(userId !== undefined, (query) => query.where("user_id", "=", userId ?? ""))
        .$if(before !== undefined, (query) => query.where("id", "<", before?.[0] ?? ""))
        .orderBy("id", "desc")
        .limit(size + 1)
        .execute();
      const orders = await withItems(rows.slice(0, size));
      const last = orders.at(-1);
      return { orders, nextToken: rows.length > size && last ? encodePageToken(list, [last.id]) : "" };
    },
  };
}

function toRow(order: Order, requestId: string): OrderTables["orders"] {
  return {
    id: order.id,
    user_id: order.userId,
    total_cents: order.totalCents,
    status: order.status,
    cancel_reason: order.cancelReason ?? null,
    request_id: requestId,
    created_at: order.createdAt,
    updated_at: order.updatedAt,
  };
}

function cancelReasonOf(settlement: Settlement): CancelReason | null {
  return settlement.status === "CANCELLED" ? settlement.cancelReason : null;
}

function toItemRow(orderId: string) {
  return ({ bookId, title, quantity, unitPriceCents }: OrderItem, position: number): OrderTables["order_items"] => ({
    order_id: orderId,
    position,
    book_id: bookId,
    title,
    quantity,
    unit_price_cents: unitPriceCents,
  });
}

function toOrder(row: OrderRow, items: readonly ItemRow[]): Order {
  return {
    id: row.id,
    userId: row.user_id,
    items: items.map((item) => ({
      bookId: item.book_id,
      title: item.title,
      quantity: item.quantity,
      unitPriceCents: item.unit_price_cents,
    })),
    totalCents: row.total_cents,
    status: row.status,
    ...(row.cancel_reason === null ? {} : { cancelReason: row.cancel_reason }),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
