import { type Kysely, type Selectable, sql } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, violatedConstraint } from "#shared/database";
import type { Order, OrderItem, OrderRepository, OrderStatus } from "./orders.ts";

export interface OrderTables {
  orders: {
    id: string;
    user_id: string;
    total_cents: bigint;
    status: OrderStatus;
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

export function createOrderRepository(db: Kysely<OrderTables>): OrderRepository {
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

  return {
    async create(order, requestId) {
      try {
        await db.transaction().execute(async (trx) => {
          await trx.insertInto("orders").values(toRow(order, requestId)).execute();
          await trx
            .insertInto("order_items")
            .values(order.items.map(toItemRow(order.id)))
            .execute();
        });
        return order;
      } catch (error) {
        if (violatedConstraint(error) !== "orders_request_id_key") throw error;
        const first = await findBy("request_id", requestId);
        if (first === undefined) throw error;
        return first;
      }
    },

    async find(id) {
      return isUuid(id) ? findBy("id", id) : undefined;
    },

    findByRequestId: (requestId) => findBy("request_id", requestId),

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
    request_id: requestId,
    created_at: order.createdAt,
    updated_at: order.updatedAt,
  };
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
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
