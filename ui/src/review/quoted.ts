// Where a text contains the words of the suggestion, so that a reader sees what it rests on. Pure.

export type Part = { text: string; marked: boolean };
const LEAST = 4; // letters of a word that says something

/** Runs of the suggestion's words of at least four letters, whatever their case. */
export function quoted(text: string, suggestion: string): Part[] {
  const said = new Set(tokens(suggestion).filter((w) => w.length >= LEAST));
  const parts: Part[] = [];
  for (const piece of text.split(/([\p{L}\p{N}]+)/u)) {
    if (!piece) continue;
    const word = /[\p{L}\p{N}]/u.test(piece);
    add(parts, piece, word && said.has(piece.toLowerCase()));
  }
  return joined(parts);
}

function tokens(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}

function add(parts: Part[], text: string, marked: boolean): void {
  const last = parts.at(-1);
  if (last && last.marked === marked) last.text += text;
  else parts.push({ text, marked });
}

/** A single space between two marked words is marked with them. */
function joined(parts: Part[]): Part[] {
  const out: Part[] = [];
  parts.forEach((part, i) => add(out, part.text, part.marked || (part.text === " " && !!parts[i - 1]?.marked && !!parts[i + 1]?.marked)));
  return out;
}
