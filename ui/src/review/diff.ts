// Which words differ between what the model wrote and what the reviewer wrote. Pure.

export type Piece = { text: string; kind: "same" | "added" | "removed" };

/** The longest common run of words stays; the rest was removed or added. Quadratic: beyond 4 million cells, all differs. */
export function diff(before: string, after: string): Piece[] {
  const a = tokens(before);
  const b = tokens(after);
  if (a.length * b.length > 4e6) return [{ text: before, kind: "removed" }, { text: after, kind: "added" }];
  const table = lengths(a, b);
  const out: Piece[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      push(out, a[i]!, "same");
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && table[i + 1]![j]! >= table[i]![j + 1]!)) push(out, a[i++]!, "removed");
    else push(out, b[j++]!, "added");
  }
  return out;
}

function tokens(text: string): string[] {
  return text.split(/\s+/).filter(Boolean);
}

/** lengths[i][j]: the longest common subsequence of a from i and b from j. */
function lengths(a: string[], b: string[]): Uint16Array[] {
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      table[i]![j] = a[i] === b[j] ? table[i + 1]![j + 1]! + 1 : Math.max(table[i + 1]![j]!, table[i]![j + 1]!);
    }
  }
  return table;
}

function push(out: Piece[], text: string, kind: Piece["kind"]): void {
  const last = out.at(-1);
  if (last?.kind === kind) last.text += ` ${text}`;
  else out.push({ text, kind });
}
