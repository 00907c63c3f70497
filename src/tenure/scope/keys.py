"""What every key of the project file means and which part of tenure keeps its promise.

The reference page and the JSON Schema are made from this table; a test asks that it names every key.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tenure.scope import project as p


class Meaning(NamedTuple):
    """One sentence, and the package under `tenure` that acts on the key; `shown` where people only read it."""

    text: str
    by: str


SHOWN = "shown"
_SCOPE, _SERVING, _ROUTER = "scope.rules", "deploy.serving", "deploy.router"
_AUTOMATION, _REVIEW, _ROLLOUT = "deploy.automation", "deploy.review", "deploy.rollout"
_LOSS = "deploy.loss"
_MONITOR, _RETRAIN, _SYSTEM, _WORKER, _LOG = "monitor", "maintain", "system", "dataplane", "data"
_CONTROLLER = "controller"

MEANINGS: dict[type[msgspec.Struct], dict[str, Meaning]] = {
    p.Project: {
        "tenure": Meaning("Version of this format.", _SCOPE),
        "project": Meaning("Name of the project: small letters, digits, `-` and `_`.", _SCOPE),
        "scope": Meaning("What is predicted from what, why, and what counts as good enough.", _SCOPE),
        "data": Meaning("What is known of the data.", _SCOPE),
        "endpoints": Meaning("The stable names that clients call, at least one.", _SERVING),
        "server": Meaning("Processes and addresses of `tenure serve`.", _SYSTEM),
        "exchange": Meaning("What labelling tools may make this server do.", "console"),
        "privacy": Meaning("How sensitive the logged data are.", _SCOPE),
        "trust": Meaning("Which files may run code when they are loaded.", "model"),
    },
    p.Scope: {
        "case": Meaning("Something new, help for people, or a replacement of what people do.", SHOWN),
        "x": Meaning("What goes in, in words.", SHOWN),
        "y": Meaning("What comes out, for all endpoints without an `output` of their own.", _SYSTEM),
        "metrics": Meaning("Targets of the project, by a name that you give.", SHOWN),
        "budget": Meaning("What there is to spend.", SHOWN),
    },
    p.Output: {
        "labels": Meaning("The classes of an answer, at least two.", _REVIEW),
        "regions": Meaning("`box` where an answer carries boxes; for images.", _SERVING),
        "kind": Meaning("Class, number or text.", _SERVING),
        "unit": Meaning("Unit of a number, shown to reviewers.", SHOWN),
    },
    p.Target: {
        "max": Meaning("The metric shall stay at or below.", SHOWN),
        "min": Meaning("The metric shall stay at or above.", SHOWN),
        "confidence": Meaning("How sure the claim shall be.", SHOWN),
    },
    p.Budget: {
        "people": Meaning("People who review.", SHOWN),
        "reviews_per_hour": Meaning("Reviews that they can do in an hour, together.", SHOWN),
        "timeline": Meaning("Time until the project shall be live.", SHOWN),
    },
    p.Data: {
        "unit": Meaning(
            "What shares a fate, such as line, patient or user; `assign` by unit needs it. "
            "Clients send it in the header `Tenure-Unit`.",
            _SCOPE,
        ),
        "drift_prior": Meaning("How fast this domain usually changes.", SHOWN),
    },
    p.Field: {
        "type": Meaning("Type of the field.", _LOG),
        "required": Meaning("A record without the field is refused with 422.", _LOG),
        "nullable": Meaning("The field may be null.", _LOG),
        "values": Meaning("The values of a category.", _LOG),
        "min": Meaning("Smallest value of a number.", _LOG),
        "max": Meaning("Largest value of a number.", _LOG),
        "masked": Meaning(
            "Reviewers see the value only on request, and the audit keeps who asked. "
            "Exports and data sets are without it, unless somebody reveals it with a reason.",
            "console",
        ),
    },
    p.RuleCase: {
        "when": Meaning('Such as `amount > 1000 and country != "de"`; signs are < <= > >= == !=.', "model"),
        "answer": Meaning("The answer.", "model"),
        "confidence": Meaning("How sure the answer is; without it no answer of this case is automated.", "model"),
    },
    p.StageSpec: {
        "stage": Meaning("Name of the step, as it stands in metrics and alarms.", "model"),
        "uses": Meaning(
            "`module:Name` of a class or function beside the project file, or `http://host/v2/models/NAME`.",
            "cli",
        ),
        "rule": Meaning("Cases in order; the first whose condition holds answers.", "model"),
        "otherwise": Meaning("What is answered where no case holds; without cases it is a constant.", "model"),
        "placement": Meaning(
            "Run in the event loop (below a millisecond), in a thread, or in a process of its own per worker.",
            _WORKER,
        ),
        "processes": Meaning(
            "With `placement: process`: how many each worker has; they share every batch.", _WORKER
        ),
        "budget": Meaning("Time that the step may take.", SHOWN),
    },
    p.Fallback: {
        "decide": Meaning("The answer when nobody has decided in time.", _SERVING),
        "after": Meaning("Time from the request to the fallback, more than 250ms.", _SERVING),
    },
    p.Lost: {
        "hold": Meaning("Automation goes on so long without a controller; then people decide all.", _SERVING),
    },
    p.Serve: {
        "latency": Meaning("Time within which an answer shall be there.", _SERVING),
        "qps": Meaning("Requests per second to be prepared for.", SHOWN),
        "max_body": Meaning("Largest request body; larger ones get 413.", _SERVING),
        "max_queue": Meaning("Work that may wait before requests get 503.", _SERVING),
        "on_overrun": Meaning(
            "A model that is later than `latency` or a stage's budget: wait for it, ask a person, decide the "
            "fallback, or refuse with 504.",
            _SERVING,
        ),
        "on_timeout": Meaning("The decision when people take too long.", _SERVING),
        "on_controller_lost": Meaning("What workers do when the controller is gone.", _SERVING),
    },
    p.Payloads: {
        "keep": Meaning("Which inputs are kept; those of pending and audited requests always are.", _SERVING),
        "sample": Meaning("Share of the other inputs that is kept.", _SERVING),
        "quota": Meaning("Room that kept inputs may take.", _CONTROLLER),
        "retention": Meaning("Age at which kept inputs are deleted.", _CONTROLLER),
    },
    p.LogSpec: {
        "durability": Meaning("Survive a killed process, or a power cut too (slower).", _WORKER),
        "payloads": Meaning("Which inputs are kept, how much and how long.", _SERVING),
        "on_full": Meaning(
            "Refuse with 503, or answer without a record, when the log cannot be written.", _SERVING
        ),
    },
    p.Side: {
        "errors": Meaning("Largest share of errors among automated answers with this label.", _AUTOMATION),
    },
    p.Audit: {
        "steady": Meaning("Share of automated decisions that a person checks.", _AUTOMATION),
        "rollout": Meaning("The same while a rollout runs.", _AUTOMATION),
    },
    p.CertificateSpec: {
        "expires": Meaning("Age at which a certificate lapses.", _AUTOMATION),
        "confidence": Meaning("How sure a certificate is of its bound.", _AUTOMATION),
        "up": Meaning("A higher level waits for an operator, or does not.", _AUTOMATION),
        "down": Meaning("A level drops by itself when its certificate falls.", _AUTOMATION),
        "pilot": Meaning("Unlabelled scores that fix the grid of thresholds.", _AUTOMATION),
        "plan": Meaning("Labels that the certificate plans with.", _AUTOMATION),
        "labels": Meaning(
            "`fair`: labels of an even draw count; `weighted`: all blind ones, by one over their chance.",
            _AUTOMATION,
        ),
        "agreements": Meaning(
            "Part of the bound for errors where model and first reader agreed; makes the claim one against"
            " adjudicated truth.",
            _AUTOMATION,
        ),
        "decisions": Meaning("Automated decisions of the version after which it lapses, too.", _AUTOMATION),
    },
    p.LossSpec: {
        "tolerance": Meaning("A number is wrong when it is off by more than this.", _LOSS),
        "iou": Meaning("Boxes are wrong when one is missed, false or of another class at this overlap.", _LOSS),
        "word_error": Meaning("A text is wrong when more than this share of the words is.", _LOSS),
        "costs": Meaning(
            "Truth -> answer -> cost of that mistake; the bound is on the mean, in parts of the dearest.",
            _LOSS,
        ),
    },
    p.SegmentSpec: {
        "max": Meaning("Highest level of this segment; without it the endpoint's.", _AUTOMATION),
        "errors": Meaning(
            "Bound on the errors among its automated answers; without it the endpoint's.", _AUTOMATION
        ),
        "sides": Meaning("The same by output label.", _AUTOMATION),
    },
    p.Segments: {
        "by": Meaning(
            "A field of the record, or `unit` for what clients send in `Tenure-Unit`: known before anything is "
            "decided.",
            "deploy.segments",
        ),
        "values": Meaning(
            "The segments by the value that they have there, each with what it promises otherwise or `{}`. "
            "Every other value goes with the endpoint's own level.",
            _AUTOMATION,
        ),
    },
    p.Automation: {
        "start": Meaning("Level of the first day.", _AUTOMATION),
        "max": Meaning("Highest level that evidence can earn.", _AUTOMATION),
        "errors": Meaning(
            "Largest share of errors among all automated answers; instead of `sides`.", _AUTOMATION
        ),
        "sides": Meaning("Bounds by label; a label without one is never automated.", _AUTOMATION),
        "loss": Meaning("What counts as wrong; without it, another value than the truth.", _AUTOMATION),
        "audit": Meaning("How many automated decisions people check.", _AUTOMATION),
        "blind": Meaning("Share of reviewed items shown without the model's answer.", _AUTOMATION),
        "certificate": Meaning("Life of a certificate.", _AUTOMATION),
        "segments": Meaning(
            "Parts of the cases that earn automation apart, such as lines or languages.", _AUTOMATION
        ),
    },
    p.SecondReader: {
        "disagreements": Meaning("Share of disagreements with the model that a second person reads.", _REVIEW),
        "agreements": Meaning("Share of agreements with the model that a second person reads.", _REVIEW),
    },
    p.Review: {
        "readers": Meaning("People who read each item.", _REVIEW),
        "second_reader": Meaning("Which items get a second, blind reading.", _REVIEW),
        "lease": Meaning("Time that a reviewer has for an item before it goes back.", _REVIEW),
        "gold": Meaning("Items of known truth among the others, to measure the readers.", _REVIEW),
        "cap": Meaning("Most judgements of one person.", _REVIEW),
        "within": Meaning("Time in which items that no client waits for are to be judged.", _REVIEW),
        "on_late": Meaning(
            "What happens to an item that nobody judged `within`; one that a client waits for is escalated.",
            _REVIEW,
        ),
        "on_fallback": Meaning(
            "What happens to an item whose client got the fallback's decision; one that is evidence stays.",
            _REVIEW,
        ),
        "adjudication": Meaning("Who decides where readers differ.", _REVIEW),
        "escalate_after": Meaning("Skips after which an item goes to an adjudicator.", _REVIEW),
        "costs": Meaning(
            "Cost of a wrong answer by the label that the model gave; the queue goes by cost x uncertainty.",
            _REVIEW,
        ),
    },
    p.Gold: {
        "share": Meaning("Share of what a reader gets that is gold.", _REVIEW),
    },
    p.Cap: {
        "per_hour": Meaning("In any hour.", _REVIEW),
        "per_day": Meaning("In any 24 hours.", _REVIEW),
    },
    p.Step: {
        "shadow": Meaning("Share of requests that the candidate answers unseen.", _ROLLOUT),
        "share": Meaning("Share of requests that the candidate answers.", _ROLLOUT),
        "min": Meaning("Requests that the step waits for, counted over all and weighed by the share.", _ROLLOUT),
        "min_labels": Meaning("Labels that the step waits for.", _ROLLOUT),
        "bake": Meaning("Least time in the step.", _ROLLOUT),
        "approve": Meaning("The step waits for an operator.", _ROLLOUT),
    },
    p.GateSpec: {
        "bad": Meaning(
            "What is counted: `wrong_decision`, `over_latency`, `empty_output`, `failed`, or `reaction:NAME`.",
            _ROLLOUT,
        ),
        "mean": Meaning(
            "Instead of `bad`, what is averaged: `number`, `confidence`, `latency_ms`, or `reaction:NAME`.",
            _ROLLOUT,
        ),
        "alpha": Meaning("Chance that a candidate as good as the stable version is rolled back.", _ROLLOUT),
        "maturity": Meaning("Age at which an outcome is known.", _ROLLOUT),
        "margin": Meaning(
            "For `advance: shown`: relative increase to rule out; 1, taken without it, means less than twice the "
            "rate. Of a mean: the difference that matters, in the value's own unit.",
            _ROLLOUT,
        ),
        "missing": Meaning(
            "`worst_case`: a pass must hold with every missing label against it; `at_random`: they say nothing.",
            _ROLLOUT,
        ),
        "constant": Meaning("Compare with this rate instead of the stable version.", _ROLLOUT),
        "harm": Meaning("Of a mean: the way that is worse.", _ROLLOUT),
        "floor": Meaning("Of a mean: the least that one value counts.", _ROLLOUT),
        "cap": Meaning("Of a mean: the most that one value counts.", _ROLLOUT),
        "effect": Meaning("Of a mean: the difference that it is made to find; else `margin`.", _ROLLOUT),
    },
    p.SliceSpec: {
        "by": Meaning("A field of the record, or `unit`: known before a request is routed.", _ROLLOUT),
        "values": Meaning("The values that are judged apart.", _ROLLOUT),
        "each": Meaning("Instead of `values`: every value that comes, the first so many.", _ROLLOUT),
        "advance": Meaning(
            "What a step needs of each: no harm seen, `enough` of it to see some, or `shown` to be no worse.",
            _ROLLOUT,
        ),
    },
    p.RolloutSpec: {
        "strategy": Meaning("A ladder by name, instead of `steps`.", _ROLLOUT),
        "steps": Meaning("The default plan: shadow first, then rising shares to 100%.", _ROLLOUT),
        "gates": Meaning("Comparisons that roll back.", _ROLLOUT),
        "slices": Meaning("Parts of the traffic in which every gate is also judged apart.", _ROLLOUT),
        "assign": Meaning("What sticks to one version: a request, a unit, or a unit for an epoch.", _ROUTER),
        "epoch": Meaning("Length of an epoch.", _ROLLOUT),
        "candidate": Meaning("`earned`: automates only what its own certificate covers.", _ROLLOUT),
        "advance": Meaning(
            "`shown`: a step needs proof of no harm; `not_contradicted`: no alarm is enough.", _ROLLOUT
        ),
        "keep_warm": Meaning("Time that the old version stays loaded after a rollout.", _ROLLOUT),
        "deadline": Meaning("Age at which a rollout that has not ended pauses; 0 never.", _ROLLOUT),
        "operator_silence": Meaning(
            "Pauses when it asks for an operator and none looked for so long; 0 never.", _ROLLOUT
        ),
        "second_person": Meaning("Whoever started it may not approve, promote or jump up.", _ROLLOUT),
    },
    p.Threshold: {
        "metric": Meaning("Name of the metric, as in the metrics reference.", _MONITOR),
        "above": Meaning("Alarm when the pane's mean is above.", _MONITOR),
        "below": Meaning("Alarm when the pane's mean is below.", _MONITOR),
        "for": Meaning("So long without a break.", _MONITOR),
        "do": Meaning("What follows.", _MONITOR),
    },
    p.AlarmSpec: {
        "drift": Meaning(
            "Which drift: of the inputs (`data`), or of the inputs and of the outputs (`any`).", _MONITOR
        ),
        "do": Meaning("What follows.", _MONITOR),
    },
    p.Monitor: {
        "pane": Meaning("Length of a time pane.", _MONITOR),
        "reference": Meaning("Panes of the reference that drift is measured against.", _MONITOR),
        "false_alarms": Meaning("False drift alarms that the project accepts, for each board.", _MONITOR),
        "tolerance": Meaning("Share of the rows whose shift does not matter.", _MONITOR),
        "notice": Meaning("Time within which a shift of 10 % of the rows must be noticed.", _MONITOR),
        "thresholds": Meaning("Plain thresholds.", _MONITOR),
        "alarms": Meaning("What drift alarms do.", _MONITOR),
        "webhook": Meaning("URL that gets every alarm as JSON.", _MONITOR),
    },
    p.Retrain: {
        "command": Meaning("Your training command.", _RETRAIN),
        "min_labels": Meaning("New labels that a training needs.", _RETRAIN),
        "auto_train": Meaning("Train without being asked.", _RETRAIN),
        "auto_deploy": Meaning("Start a rollout of what was trained and passed, without being asked.", _RETRAIN),
        "reveal": Meaning("The command gets the masked fields, too; the audit keeps each run.", _RETRAIN),
        "timeout": Meaning("Time after which the command is stopped.", _RETRAIN),
    },
    p.Decode: {
        "min_side": Meaning(
            "JPEG photos are decoded at 1/2, 1/4 or 1/8 of their size as long as the shorter side keeps so many "
            "pixels, which is faster. Versions are registered with it and answer no other.",
            _LOG,
        ),
    },
    p.EndpointSpec: {
        "input": Meaning("What a request carries.", _LOG),
        "fields": Meaning("The fields of a record.", _LOG),
        "decode": Meaning("How pictures are decoded.", _LOG),
        "output": Meaning("What this endpoint answers; without it `scope.y`.", _SERVING),
        "pipeline": Meaning("The steps of the model, in order.", "model"),
        "serve": Meaning("How requests are answered.", _SERVING),
        "log": Meaning("How the prediction log is kept.", _SERVING),
        "automation": Meaning(
            "Where automation starts, how far it may go, what errors are allowed.", _AUTOMATION
        ),
        "review": Meaning("How people's judgements are collected.", _REVIEW),
        "rollout": Meaning("How a new version comes in.", _ROLLOUT),
        "monitor": Meaning("What is watched.", _MONITOR),
        "retrain": Meaning("How a new version is made.", _RETRAIN),
    },
    p.Server: {
        "name": Meaning("Name of the server in the metadata of the Open Inference Protocol.", _SERVING),
        "host": Meaning("Address to bind; other than loopback needs tokens.", _SYSTEM),
        "port": Meaning("Port of the endpoints; 0 picks a free one.", _SYSTEM),
        "console_port": Meaning("Port of the console and its API; 0 picks a free one.", _SYSTEM),
        "grpc_port": Meaning(
            "Port of the Open Inference Protocol over gRPC; 0 picks a free one. Needs `tenure[grpc]`.", _SERVING
        ),
        "workers": Meaning("Worker processes.", _SYSTEM),
        "drain": Meaning("Longest time that a stopping worker finishes what it has in hand.", _SYSTEM),
        "notice": Meaning(
            "How long `ready` is false before the server takes no more connections, for load balancers.", _SYSTEM
        ),
        "state": Meaning("`postgresql://…` or `sqlite:///…`; without it SQLite in the data folder.", _SYSTEM),
        "data": Meaning("Data folder, from the project file's folder.", _SYSTEM),
    },
    p.Trust: {
        "sha256": Meaning(
            "SHA-256 of pickles and digests of MLflow folders that may be loaded; `tenure register` shows them.",
            "model",
        ),
        "skops": Meaning(
            "SHA-256 of a `.skops` file and the types, beyond scikit-learn's own, that it may construct.",
            "model",
        ),
    },
    p.Exchange: {
        "hosts": Meaning(
            "Hosts that an input which Label Studio names by address is fetched from: `name`, `name:port`, an "
            "address or a network. Nothing else is called; a private address must be listed itself.",
            "console",
        ),
    },
    p.Privacy: {
        "level": Meaning(
            "How sensitive the logged data are; what needs encryption or redaction is refused.", _SCOPE
        ),
    },
}


def meaning(struct: type[msgspec.Struct], key: str) -> Meaning:
    """Return what a key means."""
    return MEANINGS[struct][key]
