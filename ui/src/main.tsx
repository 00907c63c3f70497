import { render } from "preact";
import "./style/base.css";
import "./style/parts.css";
import "./style/review.css";
import "./style/rollout.css";
import { App } from "./app";
import { follow } from "./route";

follow();
render(<App />, document.getElementById("app")!);
