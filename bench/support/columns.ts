/** Lines whose cells stand below each other, in the given columns to the right. */
export function toColumns(rows: readonly (readonly string[])[], toTheRight: ReadonlySet<number>): string {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows.map((row) => toLine(row, widths, toTheRight)).join("\n");
}

function toLine(row: readonly string[], widths: readonly number[], toTheRight: ReadonlySet<number>): string {
  const cells = row.map((cell, column) => {
    const width = widths[column] ?? 0;
    return toTheRight.has(column) ? cell.padStart(width) : cell.padEnd(width);
  });
  return cells.join("  ").trimEnd();
}
