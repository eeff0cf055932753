import { decodePageToken, encodePageToken } from "#shared/database";
import { DomainError } from "#shared/errors";
import type { NewUser, User, UserErrorReason, UserRepository } from "./users.ts";

/** For tests. It keeps the contract in repository.test.ts, and announces nothing. */
export function createMemoryRepository(): UserRepository {
  const users: NewUser[] = [];
  const byRequestId = new Map<string, NewUser>();
  const counts = new Map<string, bigint>();

  const greetingsOf = (name: string) => counts.get(name) ?? 0n;
  const counted = (user: NewUser): User => ({
    ...user,
    greetings: greetingsOf(user.username) + greetingsOf(user.id),
  });

  return {
    async create(user, requestId) {
      const first = requestId === undefined ? undefined : byRequestId.get(requestId);
      if (first !== undefined) return counted(first);
      const email = user.email.toLowerCase();
      if (users.some((other) => other.email.toLowerCase() === email)) {
        throw new DomainError("already_exists", "EMAIL_TAKEN" satisfies UserErrorReason, "taken", {
          metadata: { email: user.email },
        });
      }
      users.push(user);
      if (requestId !== undefined) byRequestId.set(requestId, user);
      return counted(user);
    },
    async find(id) {
      const user = users.find((one) => one.id === id);
      return user && counted(user);
    },
    async list({ size, token }) {
      const [from] = decodePageToken("users", token, ["int4"]) ?? [0];
      const to = from + size;
      const nextToken = to < users.length ? encodePageToken("users", [to]) : "";
      return { users: users.slice(from, to).map(counted), nextToken };
    },
    async countGreeting(name) {
      if (!users.some(({ username, id }) => username === name || id === name)) return false;
      counts.set(name, greetingsOf(name) + 1n);
      return true;
    },
  };
}
