import { defineConfig } from "vitest/config";

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../src/tenure/console/static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the content security policy allows files only
    target: "es2022",
  },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
