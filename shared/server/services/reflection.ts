import {
  createRegistry,
  type DescEnum,
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  type Registry,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "#gen/google/rpc/error_details_pb.ts";
import { ServerReflection as V1 } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { abortableItems } from "../interceptors/abortable.ts";

/** A request of either version: they differ in nothing but their package. */
interface Request {
  readonly host: string;
  readonly messageRequest:
    | { case: "fileByFilename" | "fileContainingSymbol" | "allExtensionNumbersOfType" | "listServices"; value: string }
    | { case: "fileContainingExtension"; value: { containingType: string; extensionNumber: number } }
    | { case: undefined; value?: undefined };
}

export interface ReflectionOptions {
  /** What is served; asked for at the first request, when all routes are there. */
  readonly services: () => Iterable<{ typeName: string; file: DescFile }>;
  /** Ends open streams, with UNAVAILABLE as its reason says, so that they do not hold a shutdown. */
  readonly closing: AbortSignal;
}

/**
 * grpc.reflection v1 and v1alpha: what this server serves, with every file that it rests on, for `buf curl`, grpcurl
 * and the like.
 */
export function addReflection(router: ConnectRouter, { services, closing }: ReflectionOptions): void {
  let schema: Schema | undefined;

  async function* serverReflectionInfo(requests: AsyncIterable<Request>) {
    schema ??= readSchema(services());
    for await (const originalRequest of abortableItems(closing, requests)) {
      const { host: validHost, messageRequest } = originalRequest;
      yield {
        validHost,
        originalRequest: { host: validHost, messageRequest },
        messageResponse: answer(schema, messageRequest),
      };
    }
  }

  router.service(V1, { serverReflectionInfo });
  router.service(V1Alpha, { serverReflectionInfo });
}

interface Schema {
  readonly services: readonly string[];
  /** By name, as imports spell it. */
  readonly files: ReadonlyMap<string, DescFile>;
  /** Where each symbol is declared. */
  readonly symbols: ReadonlyMap<string, DescFile>;
  readonly types: Registry;
}

function readSchema(services: Iterable<{ typeName: string; file: DescFile }>): Schema {
  const list = [...services];
  // What errors carry, though no service's file imports it: a client can then read their details.
  const roots = [...list.map(({ file }) => file), file_google_rpc_error_details];
  const files = withDependencies(roots);
  const types = createRegistry(...files);
  return {
    services: [...new Set(list.map(({ typeName }) => typeName))].sort(),
    files: new Map(files.map((file) => [file.proto.name, file])),
    symbols: new Map([...types].flatMap((type) => namesIn(type).map((name) => [name, type.file]))),
    types,
  };
}

function answer(schema: Schema, question: Request["messageRequest"]) {
  switch (question.case) {
    case "listServices": {
      const service = schema.services.map((name) => ({ name }));
      return { case: "listServicesResponse", value: { service } } as const;
    }
    case "fileByFilename":
      return fileAnswer(schema.files.get(question.value), `file ${question.value}`);
    case "fileContainingSymbol":
      return fileAnswer(schema.symbols.get(question.value), `symbol ${question.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = question.value;
      const extension = extensionsOf(schema.types, containingType).find(({ number }) => number === extensionNumber);
      return fileAnswer(extension?.file, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const baseTypeName = question.value;
      if (schema.types.getMessage(baseTypeName) === undefined) return notFound(`message ${baseTypeName}`);
      const extensionNumber = extensionsOf(schema.types, baseTypeName).map(({ number }) => number);
      return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } } as const;
    }
    case undefined:
      return failure(Code.InvalidArgument, "the request asks for nothing that this server knows");
  }
}

/** A type's full name and those of what is named within it. Nested types come by themselves. */
function namesIn(type: DescMessage | DescEnum | DescExtension | DescService): string[] {
  switch (type.kind) {
    case "message":
      return [type.typeName, ...[...type.fields, ...type.oneofs].map(({ name }) => `${type.typeName}.${name}`)];
    case "service":
      return [type.typeName, ...type.methods.map(({ name }) => `${type.typeName}.${name}`)];
    case "enum": {
      // As in C++, an enum's values are its siblings.
      const scope = type.typeName.slice(0, -type.name.length);
      return [type.typeName, ...type.values.map(({ name }) => scope + name)];
    }
    case "extension":
      return [type.typeName];
  }
}

function extensionsOf(types: Registry, extendee: string): DescExtension[] {
  return [...types].filter((type) => type.kind === "extension").filter((e) => e.extendee.typeName === extendee);
}

/** The files, each once and after all that it imports. */
function withDependencies(files: readonly DescFile[], found = new Set<DescFile>()): DescFile[] {
  for (const file of files) {
    if (found.has(file)) continue;
    withDependencies(file.dependencies, found);
    found.add(file);
  }
  return [...found];
}

function fileAnswer(file: DescFile | undefined, asked: string) {
  if (file === undefined) return notFound(asked);
  const fileDescriptorProto = withDependencies([file]).map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: fileDescriptorProto.reverse() } } as const;
}

function notFound(asked: string) {
  return failure(Code.NotFound, `${asked} is not known here`);
}

function failure(errorCode: Code, errorMessage: string) {
  return { case: "errorResponse", value: { errorCode, errorMessage } } as const;
}
