// The management API's answers, as far as the page reads them. Times are microseconds UTC.

export type Role = "viewer" | "reviewer" | "adjudicator" | "operator" | "client";
export type Me = { name: string; role: Role; project: string; endpoints: string[]; };

export type Box = { x1: number; y1: number; x2: number; y2: number; label: string; confidence?: number | null };
export type Step = { shadow: number | null; share: number | null; min: number; min_labels: number; bake: number; approve: boolean };
export type Plan = { steps?: Step[] };

export type Note = { id: number; endpoint: string | null; at_us: number; text: string; author: string };

export type Alarm = {
  id: number; endpoint: string; rule: string; kind: string; state: string; metric: string; stage: string; version: string;
  shape: string; message: string; numbers: Record<string, unknown>; actions: unknown[]; onset_us: number | null;
  pending_us: number; fired_us: number | null; acknowledged_us: number | null; acknowledged_by: string | null;
  resolved_us: number | null;
};

export type Need = { rank: number; kind: string; endpoint: string; text: string; since_us: number | null };

export type Summary = {
  endpoint: string; input: string; level: string; level_since_us: number | null; level_cause: string;
  segments: Record<string, string>;
  routing: { stable: string | null; candidate: string | null; share: number; shadows: string[]; policy: Record<string, unknown>; table: number } | null;
  rollout: { id: string; candidate: string; stable: string | null; state: string; step: number; reason: string; plan: Plan } | null;
  alarms: Alarm[];
  review: { open: number; conflict: number; pending: number; oldest_us: number | null };
  judged: number;
  flow: Flow | null;
};
export type Flow = { per_second: number; automated: number | null; seconds: number; latency_ms: number | null };

export type Overview = {
  project: string; now_us: number; needs: Need[]; endpoints: Summary[]; events: Note[]; health: Record<string, unknown>;
};

export type Threshold = { metric: string; above: number | null; below: number | null; for_s: number };
export type Endpoint = Summary & {
  pipeline: { stage: string; placement: string; budget_s: number | null }[]; thresholds: Threshold[];
  latency_budget_s: number; pane_s: number; labels: string[]; regions: string | null; events: Note[]; now_us: number;
};

export type Series = {
  stage: string; metric: string; version: string; title: string; unit: string; t_us: number[]; mean: (number | null)[]; low: (number | null)[];
  high: (number | null)[]; n: number[]; missing: number[];
};
export type Charts = { endpoint: string; since_us: number; now_us: number; series: Series[] };
export type Heat = {
  t_us: number[]; rows: { stage: string; metric: string; title: string; armed: boolean; distance: (number | null)[] }[];
};

export type Verdict = { rollout: string; step: number; gate: string; outcome: string; at_us: number; numbers: Record<string, number>; sentence: string };
export type Move = {
  id: number; at_us: number; from_state: string; to_state: string; from_step: number; to_step: number; reason: string;
  numbers: Record<string, unknown>; author: string;
};
export type Rollout = {
  id: string; endpoint: string; candidate: string; stable: string | null; plan: Plan; state: string; step: number;
  step_started_us: number; attempt: number; reason: string; created_us: number; created_by: string;
};
export type RolloutDetail = Rollout & {
  verdicts: Verdict[]; evidence: { step: number; gate: string; x1: number; x0: number; n1: number; n0: number }[];
  moves: Move[]; now_us: number; waits?: string[]; asks?: string | null; approved_by?: string | null;
  outstanding?: Record<string, number>; forecast?: { requests: number | null; seconds: number | null; sentence: string } | null;
};

export type Certificate = {
  id: number; endpoint: string; version: string; side: string; state: string; threshold: number; bound: number; delta: number;
  n: number; k: number; coverage: number; issued_us: number; expires_us: number; ended_us: number | null; cause: string; claim: string;
};
export type CurvePoint = { threshold: number; share: number; n: number; k: number; upper: number; log_e: number; valid: boolean };
export type Lineage = {
  id: number; version: string; side: string; bound: number; delta: number; state: string; labels: number; attempt: number;
  note: string; curve: CurvePoint[]; missing: number; reference: string;
};
export type LevelMove = { id: number; at_us: number; from_level: string; to_level: string; author: string; cause: string };
export type Automation = {
  endpoint: string; level: string; max: string; up: string; next: string | null; why_not_higher: string | null;
  labels: number; moves: LevelMove[]; certificates: Certificate[]; lineages: Lineage[]; shadow: Shadow | null; now_us: number;
  bias?: Bias; segment: string; by: string | null; segments: SegmentRow[]; promise: string;
};
export type SegmentRow = {
  segment: string; level: string; max: string; next: string | null; why_not_higher: string | null; labels: number;
  certificates: number; note: string;
};
export type Rate = { share: number | null; low: number; high: number; n: number; effective: number };
export type Bias = { shown: Rate; blind: Rate; agree_shown: Rate; agree_blind: Rate; shown_worse: boolean; sentence: string };
export type Shadow = {
  version: string; n: number; sentence: string; agreement: number | null; agreement_interval: [number, number] | null;
  directions: { model: string; person: string; count: number; of: number; share: number | null; low: number; high: number }[];
};

export type Version = {
  id: string; endpoint: string; name: string; sha: string; state: string; created_us: number; created_by: string;
  provenance: Record<string, unknown>;
};
export type RetrainRun = {
  id: string; endpoint: string; cause: string; state: string; snapshot: string; version: string | null;
  metrics: Record<string, unknown>; log: string; started_us: number; ended_us: number | null;
};
export type AuditRow = { id: number; at_us: number; actor: string; action: string; subject: string; detail: Record<string, unknown>; hash: string };

export type Range = { low: number; high: number; mean: number; quantiles: number[] };
export type FieldInfo = { name: string; type: string; masked: boolean; values: string[]; range: Range | null };

export type ReviewItem = {
  item: string; token: string; endpoint: string; media_type: string; record: unknown; blind: boolean; labels: string[];
  regions: string | null; kind: string; adjudicate: boolean; expires_us: number;
  unit?: string; range?: Range | null; fields?: FieldInfo[]; // optional: an older server does not say them
  suggestion: { value: unknown; confidence: number | null; regions: Box[]; version: string; contributions?: Record<string, number> | null } | null;
};
