import { Kysely, type TransactionBuilder } from "kysely";
import { runInEmbeddedTransaction } from "#shared/call-context";

/** Marks what runs in its transactions, so that a call to a peer is refused there instead of waiting for the session. */
export class EmbeddedKysely<Tables> extends Kysely<Tables> {
  override transaction(): TransactionBuilder<Tables> {
    return marking(super.transaction());
  }
}

function marking<Tables>(builder: TransactionBuilder<Tables>): TransactionBuilder<Tables> {
  const execute = builder.execute.bind(builder);
  const setAccessMode = builder.setAccessMode.bind(builder);
  const setIsolationLevel = builder.setIsolationLevel.bind(builder);
  return Object.assign(builder, {
    execute: ((work) => execute((tx) => runInEmbeddedTransaction(() => work(tx)))) satisfies typeof execute,
    setAccessMode: ((mode) => marking(setAccessMode(mode))) satisfies typeof setAccessMode,
    setIsolationLevel: ((level) => marking(setIsolationLevel(level))) satisfies typeof setIsolationLevel,
  });
}
