// One box on the image. It is drawn again only when it changes, so that a thousand others cost nothing.

import { Component } from "preact";
import type { Box } from "../types";
import { HANDLES } from "./boxes";

type Props = { box: Box; index: number; selected: boolean };

export class Mark extends Component<Props> {
  private drawn = 0;

  override shouldComponentUpdate(next: Props): boolean {
    return next.box !== this.props.box || next.selected !== this.props.selected || next.index !== this.props.index;
  }

  override render({ box, index, selected }: Props) {
    const [width, height] = [box.x2 - box.x1, box.y2 - box.y1];
    this.drawn += 1; // tests read it: one move must not draw the others
    return (
      <g class={selected ? "box selected" : "box"} data-box={index} data-drawn={this.drawn}>
        <rect class="halo" x={box.x1} y={box.y1} width={width} height={height} />
        <rect class="edge" x={box.x1} y={box.y1} width={width} height={height} />
        <text x={box.x1} y={box.y1}>{index + 1} {box.label}</text>
        {selected && HANDLES.map((h) => <circle key={h} class={`handle ${h}`} data-handle={h} cx={h.endsWith("w") ? box.x1 : box.x2} cy={h.startsWith("n") ? box.y1 : box.y2} />)}
      </g>
    );
  }
}

type RowProps = { box: Box; index: number; selected: boolean; select: (index: number) => void; remove: (index: number) => void };

/** Its line in the list; the two functions may be old ones: they read the draft that is current. */
export class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const now = this.props;
    return next.box.label !== now.box.label || next.box.confidence !== now.box.confidence || next.selected !== now.selected || next.index !== now.index;
  }

  override render({ box, index, selected, select, remove }: RowProps) {
    return (
      <li>
        <button aria-pressed={selected} onClick={() => select(index)}>{index + 1} {box.label}{box.confidence != null && <span class="quiet"> {Math.round(100 * box.confidence)} %</span>}</button>
        <button class="plain" aria-label={`Delete box ${index + 1}`} onClick={() => remove(index)}>✕</button>
      </li>
    );
  }
}
