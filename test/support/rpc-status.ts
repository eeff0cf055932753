import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";

/** One entry of google.rpc.Status.details. */
export interface StatusDetail<Desc extends DescMessage = DescMessage> {
  readonly schema: Desc;
  readonly message: MessageShape<Desc>;
}

const TYPE_URL = "type.googleapis.com/";

/** A google.rpc.Status, field by field: what other implementations put into `grpc-status-details-bin`. */
export function writeStatus(code: number, message: string, details: readonly StatusDetail[]): Buffer {
  const writer = new BinaryWriter();
  writer.tag(1, 0).int32(code);
  writer.tag(2, 2).string(message);
  for (const { schema, message } of details) {
    writer.tag(3, 2).fork();
    writer.tag(1, 2).string(`${TYPE_URL}${schema.typeName}`);
    writer.tag(2, 2).bytes(toBinary(schema, message));
    writer.join();
  }
  return Buffer.from(writer.finish());
}

/** The details of that type in a google.rpc.Status. */
export function readDetails<Desc extends DescMessage>(status: Uint8Array, schema: Desc): MessageShape<Desc>[] {
  const details: MessageShape<Desc>[] = [];
  const reader = new BinaryReader(status);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field !== 3) {
      reader.skip(type);
      continue;
    }
    const { typeUrl, value } = readAny(reader.bytes());
    if (typeUrl === `${TYPE_URL}${schema.typeName}`) details.push(fromBinary(schema, value));
  }
  return details;
}

function readAny(any: Uint8Array): { typeUrl: string; value: Uint8Array } {
  const reader = new BinaryReader(any);
  let typeUrl = "";
  let value = new Uint8Array();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) typeUrl = reader.string();
    else if (field === 2) value = new Uint8Array(reader.bytes());
    else reader.skip(type);
  }
  return { typeUrl, value };
}
