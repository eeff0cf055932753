import type { Catalogue, CatalogueEvent, CatalogueField, CataloguePackage, CatalogueType } from "./catalogue.ts";

export function catalogueMarkdown({ packages }: Catalogue): string {
  return ["# Events", ...packages.flatMap(packageBlocks)].join("\n\n");
}

function packageBlocks({ name, events, types }: CataloguePackage): string[] {
  return [`## ${name}`, ...events.flatMap((event) => eventBlocks(event, name)), ...types.flatMap(typeBlocks)];
}

function eventBlocks(event: CatalogueEvent, packageName: string): string[] {
  const { routingKey, orderedBy, mayBeUnrouted, jsonType } = event;
  const facts = [
    `- Routing key: \`${routingKey}\``,
    orderedBy === null ? "- Order: none is kept" : `- Order: kept by \`${orderedBy}\``,
    mayBeUnrouted
      ? "- When no queue takes it: it is gone, and that is no failure"
      : "- When no queue takes it: it is kept, and sent again until one does",
    ...(jsonType === null ? [] : [`- Older publishers: bare JSON with \`"type": ${JSON.stringify(jsonType)}\``]),
  ];
  return [
    `### ${event.name.slice(packageName.length + 1)}`,
    ...blockOf(event.description),
    facts.join("\n"),
    ...fieldsTable("Field", "Type", event.fields),
  ];
}

function typeBlocks({ name, kind, description, fields }: CatalogueType): string[] {
  return [
    `### \`${name}\` (${kind})`,
    ...blockOf(description),
    ...(kind === "enum" ? fieldsTable("Value", "Number", fields) : fieldsTable("Field", "Type", fields)),
  ];
}

function fieldsTable(first: string, second: string, fields: readonly CatalogueField[]): string[] {
  if (fields.length === 0) return [];
  const rows = fields.map(({ name, type, description }) => `| \`${name}\` | \`${type}\` | ${inCell(description)} |`);
  return [[`| ${first} | ${second} | |`, "| --- | --- | --- |", ...rows].join("\n")];
}

function blockOf(text: string): string[] {
  return text === "" ? [] : [text];
}

function inCell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n\n", "<br>");
}
