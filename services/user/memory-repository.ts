import { decodePageToken, encodePageToken } from "#shared/database";
import { DomainError } from "#shared/errors";
import type { User, UserErrorReason, UserRepository } from "./users.ts";

/** For tests. It keeps the contract in repository.test.ts. */
export function createMemoryRepository(): UserRepository {
  const users: User[] = [];
  const byRequestId = new Map<string, User>();
  return {
    async create(user, requestId) {
      const first = requestId === undefined ? undefined : byRequestId.get(requestId);
      if (first !== undefined) return first;
      const email = user.email.toLowerCase();
      if (users.some((other) => other.email.toLowerCase() === email)) {
        throw new DomainError("already_exists", "EMAIL_TAKEN" satisfies UserErrorReason, "taken", {
          metadata: { email: user.email },
        });
      }
      users.push(user);
      if (requestId !== undefined) byRequestId.set(requestId, user);
      return user;
    },
    find: async (id) => users.find((user) => user.id === id),
    async list({ size, token }) {
      const [from] = decodePageToken("users", token, ["int4"]) ?? [0];
      const to = from + size;
      return { users: users.slice(from, to), nextToken: to < users.length ? encodePageToken("users", [to]) : "" };
    },
  };
}
