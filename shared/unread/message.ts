import { create, type DescMessage, fromBinary, type Message, type MessageShape } from "@bufbuild/protobuf";
import { isReadable } from "./readable.ts";

const BYTES = Symbol("bytes");

/**
 * The message of these bytes, which reads them when somebody looks into it or changes it: from then on it is what
 * `fromBinary` would have made of them. Undefined when it is not sure that they can be read, so that no look into the
 * message ever fails. (`structuredClone` refuses it, and `util.inspect` shows nothing of what has not been looked at.)
 *
 * @param bytes are not to change
 */
export function unreadMessage<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array): MessageShape<Desc> | undefined {
  if (!isReadable(desc, bytes)) return undefined;
  const { prototype, members } = kindOf(desc);
  const target: Message = Object.assign(Object.create(prototype), { $typeName: desc.typeName });
  return new Proxy(target, new UnreadMessage(desc, members, bytes)) as MessageShape<Desc>;
}

/** What the message was made of, as long as nobody has looked into it; undefined for all other messages. */
export function unreadBytes(message: object): Uint8Array<ArrayBuffer> | undefined {
  return (message as { readonly [BYTES]?: Uint8Array<ArrayBuffer> })[BYTES];
}

/** What messages of one type have in common. */
interface Kind {
  /** Messages of proto2 have their defaults there. */
  readonly prototype: object | null;
  /** What else there is to ask for, such as a promise's `then`, is not in the bytes. */
  readonly members: ReadonlySet<PropertyKey>;
}

const kinds = new WeakMap<DescMessage, Kind>();

function kindOf(desc: DescMessage): Kind {
  let kind = kinds.get(desc);
  if (kind === undefined) {
    const members = new Set<PropertyKey>([...desc.members.map(({ localName }) => localName), "$unknown"]);
    kind = { prototype: Object.getPrototypeOf(create(desc)), members };
    kinds.set(desc, kind);
  }
  return kind;
}

class UnreadMessage implements ProxyHandler<Message> {
  readonly #desc: DescMessage;
  readonly #members: ReadonlySet<PropertyKey>;
  #bytes: Uint8Array | undefined;

  constructor(desc: DescMessage, members: ReadonlySet<PropertyKey>, bytes: Uint8Array) {
    this.#desc = desc;
    this.#members = members;
    this.#bytes = bytes;
  }

  get(target: Message, key: PropertyKey): unknown {
    if (key === BYTES) return this.#bytes;
    return Reflect.get(this.#members.has(key) ? this.#read(target) : target, key);
  }

  has(target: Message, key: PropertyKey): boolean {
    return Reflect.has(this.#members.has(key) ? this.#read(target) : target, key);
  }

  set(target: Message, key: PropertyKey, value: unknown): boolean {
    return Reflect.set(this.#read(target), key, value);
  }

  defineProperty(target: Message, key: PropertyKey, property: PropertyDescriptor): boolean {
    return Reflect.defineProperty(this.#read(target), key, property);
  }

  deleteProperty(target: Message, key: PropertyKey): boolean {
    return Reflect.deleteProperty(this.#read(target), key);
  }

  ownKeys(target: Message): (string | symbol)[] {
    return Reflect.ownKeys(this.#read(target));
  }

  getOwnPropertyDescriptor(target: Message, key: PropertyKey): PropertyDescriptor | undefined {
    return Reflect.getOwnPropertyDescriptor(this.#read(target), key);
  }

  setPrototypeOf(target: Message, prototype: object | null): boolean {
    return Reflect.setPrototypeOf(this.#read(target), prototype);
  }

  preventExtensions(target: Message): boolean {
    return Reflect.preventExtensions(this.#read(target));
  }

  #read(target: Message): Message {
    if (this.#bytes === undefined) return target;
    const message = fromBinary(this.#desc, this.#bytes);
    this.#bytes = undefined;
    return Object.assign(target, message);
  }
}
