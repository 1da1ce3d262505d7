// Compiles AnchorRegistry.sol into ../registry.json, or with --check compares the two.
//
//   npm ci && node compile.mjs            write the artefact
//   npm ci && node compile.mjs --check    fail unless the artefact is what the source gives
//
// The settings make the compiler give the same bytes everywhere: no metadata hash, no CBOR
// trailer. Target london, because older consortium chains have no PUSH0.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const NAME = "AnchorRegistry";
const here = dirname(fileURLToPath(import.meta.url));
const artefactPath = join(here, "..", "registry.json");

const settings = {
  evmVersion: "london",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function compile() {
  const file = `${NAME}.sol`;
  const input = {
    language: "Solidity",
    sources: { [file]: { content: readFileSync(join(here, file), "utf8") } },
    settings,
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  // Warnings fail the build too: a contract that anchors evidence has none.
  const problems = output.errors ?? [];
  if (problems.length > 0) {
    throw new Error(problems.map((problem) => problem.formattedMessage).join("\n"));
  }
  const contract = output.contracts[file][NAME];
  const { outputSelection, ...kept } = settings;
  return {
    contract: NAME,
    compiler: { name: "solc", version: solc.version().split(".Emscripten")[0], settings: kept },
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    runtimeBytecode: `0x${contract.evm.deployedBytecode.object}`,
  };
}

const compiled = `${JSON.stringify(compile(), null, 1)}\n`;
if (process.argv.includes("--check")) {
  const committed = existsSync(artefactPath) ? readFileSync(artefactPath, "utf8") : "";
  if (committed !== compiled) {
    console.error("registry.json is not what AnchorRegistry.sol compiles to: run node compile.mjs");
    process.exit(1);
  }
  console.log("registry.json matches AnchorRegistry.sol");
} else {
  writeFileSync(artefactPath, compiled);
  console.log(`wrote ${artefactPath}`);
}
