import type { KyselyPlugin, Transaction } from "kysely";

/**
 * The transaction, for one who may outstay his time: after `revoke` it refuses whatever is still asked of it. Kysely
 * would run that on the connection, which is in the next transaction by then.
 */
export function revocable<Tables>(tx: Transaction<Tables>): {
  readonly tx: Transaction<Tables>;
  readonly revoke: () => void;
} {
  let revoked = false;
  const plugin: KyselyPlugin = {
    transformQuery({ node }) {
      if (revoked) throw new Error("the handler's transaction is over");
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  return {
    tx: tx.withPlugin(plugin),
    revoke() {
      revoked = true;
    },
  };
}
