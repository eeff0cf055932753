import { clone, type DescField, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Interceptor } from "@connectrpc/connect";
import { v7 as uuid } from "uuid";
import { outgoingCallKey } from "../call/outgoing-call.ts";

const FIELD = "request_id";

/**
 * Gives a call that may be sent twice the `request_id` by which its peer recognizes the second: one for all attempts.
 * Only where the contract has such a field for an IDEMPOTENT method, the caller has left it empty, and the policy
 * repeats calls. The caller's own message stays as it is.
 */
export const requestIdInterceptor: Interceptor = (next) => (req) => {
  const policy = req.contextValues.get(outgoingCallKey)?.policy;
  if (req.stream || (policy?.retry === undefined && policy?.hedge === undefined)) return next(req);
  const field = fieldOf(req.method);
  if (field === undefined || reflect(req.method.input, req.message).get(field) !== "") return next(req);
  const message = clone(req.method.input, req.message);
  reflect(req.method.input, message).set(field, uuid());
  return next({ ...req, message });
};

const fields = new WeakMap<DescMethod, { readonly field: DescField | undefined }>();

function fieldOf(method: DescMethod): DescField | undefined {
  let known = fields.get(method);
  if (known === undefined) {
    known = { field: findField(method) };
    fields.set(method, known);
  }
  return known.field;
}

function findField(method: DescMethod): DescField | undefined {
  if (method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENT) return undefined;
  return method.input.fields.find(
    (field) =>
      field.name === FIELD &&
      field.fieldKind === "scalar" &&
      field.scalar === ScalarType.STRING &&
      // Filling in one would empty its siblings.
      field.oneof === undefined,
  );
}
