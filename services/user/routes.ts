import type { MessageInitShape } from "@bufbuild/protobuf";
import { type UserSchema, UserService } from "#gen/user/v1/user_pb.ts";
import type { Routes } from "#shared/server";
import type { User, Users } from "./users.ts";

const DEFAULT_PAGE_SIZE = 50;

export function userRoutes(users: Users): Routes {
  return (router) =>
    router.service(UserService, {
      async sayHello({ name }) {
        return { message: await users.sayHello(name) };
      },

      async createUser({ username, email, requestId }) {
        const user = await users.create({ username, email, ...(requestId === "" ? {} : { requestId }) });
        return { user: toProto(user) };
      },

      async getUser({ id }) {
        return { user: toProto(await users.get(id)) };
      },

      async listUsers({ pageSize, pageToken }) {
        const page = await users.list({ size: pageSize || DEFAULT_PAGE_SIZE, token: pageToken });
        return { users: page.users.map(toProto), nextPageToken: page.nextToken };
      },
    });
}

function toProto(user: User): MessageInitShape<typeof UserSchema> {
  const { id, username, email, createdAt, updatedAt, greetings } = user;
  return { id, username, email, createdAt: unixSeconds(createdAt), updatedAt: unixSeconds(updatedAt), greetings };
}

function unixSeconds(date: Date): bigint {
  return BigInt(Math.floor(date.getTime() / 1_000));
}
