// Revision 2026-07-28 of the server of conformance-server.mjs: requests without sessions, and results that ask for more input
// (SEP-2322). On the SDK that serves that revision.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import {
  createMcpHandler,
  fromJsonSchema,
  isLegacyRequest,
  McpServer,
  ProtocolError,
  ProtocolErrorCode,
} from '@modelcontextprotocol/server';
import { listed, PROMPTS, read, RESOURCES, says, strings, TEMPLATE, text, tool, TOOLS, user } from './conformance-features.mjs';

const KEY = randomBytes(32);
const tagOf = (payload) => createHmac('sha256', KEY).update(payload).digest();
/** State that a client carries, and cannot change: a step and a nonce with a tag. */
function sealed(step) {
  const payload = `${step}.${randomBytes(8).toString('base64url')}`;
  return `${payload}.${tagOf(payload).toString('base64url')}`;
}
/** Step of a sealed state; throws if its tag is wrong. */
function opened(state) {
  const [step, nonce, tag] = state.split('.');
  const expected = tagOf(`${step}.${nonce}`);
  const given = Buffer.from(tag ?? '', 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw new Error('changed on the way');
  return step;
}

const form = (message, name, type = 'string') => ({
  method: 'elicitation/create',
  params: { message, requestedSchema: { type: 'object', properties: { [name]: { type } }, required: [name] } },
});
const sampling = (words) => ({
  method: 'sampling/createMessage',
  params: { messages: [user(text(words))], maxTokens: 50 },
});
const roots = { method: 'roots/list', params: {} };
const needs = (inputRequests, requestState) => ({
  resultType: 'input_required',
  inputRequests,
  ...(requestState && { requestState }),
});

/** A tool that needs the answers to these requests, with a state if it has a `step`. */
const needing = (description, requests, { step } = {}) =>
  tool(description, (_values, { inputs, state }) => {
    const isAnswered = Object.keys(requests).every((key) => typeof inputs?.[key] === 'object' && inputs[key] !== null);
    if (isAnswered && (!step || state === step)) return says(text(`${step ?? 'all'}-ok`));
    return needs(requests, step && sealed(step));
  });

const MODERN_TOOLS = {
  ...TOOLS,
  test_missing_capability: tool('Needs the model of the client', (_values, { capabilities }) => {
    if (capabilities?.sampling) return says(text('sampled'));
    return needs({ sample: sampling('Anything') });
  }),
  test_streaming_elicitation: tool('Reports progress in its stream', async (_values, { notify, progressToken }) => {
    await notify('notifications/progress', { progressToken: progressToken ?? 'none', progress: 50, total: 100 });
    return says(text('streamed'));
  }),
  test_logging_tool: tool('Logs if the client wants that', async (_values, { log }) => {
    await log('info', 'logged');
    return says(text('logged'));
  }),
  test_trigger_tool_change: tool('Announces a change of the tools', (_values, { changed }) => {
    changed.toolsChanged();
    return says(text('announced'));
  }),
  test_trigger_prompt_change: tool('Announces a change of the prompts', (_values, { changed }) => {
    changed.promptsChanged();
    return says(text('announced'));
  }),
  test_header_parameter: tool('Has a parameter that is also a header field', (values) => says(text(JSON.stringify(values))), {
    type: 'object',
    properties: { region: { type: 'string', 'x-mcp-header': 'Region' } },
    required: ['region'],
  }),
  test_input_required_result_elicitation: needing('Needs a name', { user_name: form('What is your name?', 'name') }),
  test_input_required_result_sampling: needing('Needs the model', { capital_question: sampling('What is the capital of France?') }),
  test_input_required_result_list_roots: needing('Needs the roots', { client_roots: roots }),
  test_input_required_result_request_state: needing('Needs a state', { confirm: form('Confirm', 'ok', 'boolean') }, { step: 'state' }),
  test_input_required_result_multiple_inputs: needing(
    'Needs a name, the model and the roots',
    { user_name: form('What is your name?', 'name'), greeting: sampling('Greet me'), client_roots: roots },
    { step: 'inputs' },
  ),
  test_input_required_result_tampered_state: needing(
    'Notices a changed state',
    { confirm: form('Confirm', 'ok', 'boolean') },
    { step: 'integrity' },
  ),
  test_input_required_result_multi_round: tool('Needs two answers, one after the other', (_values, { inputs, state }) => {
    if (inputs?.step2 && state === 'second') return says(text('both answered'));
    if (inputs?.step1 && state === 'first') return needs({ step2: form('What is your color?', 'color') }, sealed('second'));
    return needs({ step1: form('What is your name?', 'name') }, sealed('first'));
  }),
  test_input_required_result_capabilities: tool('Asks only for what the client can do', (_values, { inputs, capabilities }) => {
    const requests = {
      ...(capabilities?.elicitation && { form: form('Anything?', 'value') }),
      ...(capabilities?.sampling && { sample: sampling('Anything') }),
    };
    if (inputs || !Object.keys(requests).length) return says(text('done'));
    return needs(requests, sealed('capabilities'));
  }),
};

const ASKING = 'test_input_required_result_prompt';
const MODERN_PROMPTS = { ...PROMPTS, [ASKING]: { description: 'Needs to know the user', arguments: [] } };

const CACHE = { ttlMs: 60_000, cacheScope: 'public' };
const unknown = (what) => new ProtocolError(ProtocolErrorCode.InvalidParams, `${what} is unknown`);

function newServer(changed) {
  const server = new McpServer(
    { name: 'conformance', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
      cacheHints: Object.fromEntries(
        ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read', 'server/discover'].map(
          (method) => [method, CACHE],
        ),
      ),
      requestState: { verify: opened },
    },
  );
  // The SDK checks header fields of parameters (SEP-2243) for registered tools only.
  for (const [name, { description, inputSchema, run }] of Object.entries(MODERN_TOOLS)) {
    server.registerTool(name, { description, inputSchema: fromJsonSchema(inputSchema) }, (values, { mcpReq }) =>
      run(values, {
        notify: (method, params) => mcpReq.notify({ method, params }),
        log: mcpReq.log,
        progressToken: mcpReq._meta?.progressToken,
        inputs: mcpReq.inputResponses,
        state: mcpReq.requestState(),
        capabilities: mcpReq.envelope?.['io.modelcontextprotocol/clientCapabilities'],
        changed,
      }),
    );
  }
  const on = (method, answer) =>
    server.server.setRequestHandler(method, ({ params }, { mcpReq }) => answer(params ?? {}, mcpReq));
  on('resources/list', () => ({ resources: listed(RESOURCES, 'uri') }));
  on('resources/templates/list', () => ({ resourceTemplates: [TEMPLATE] }));
  on('resources/read', ({ uri }) => {
    const contents = read(uri);
    if (!contents) throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Resource not found', { uri });
    return { contents };
  });
  on('prompts/list', () => ({ prompts: listed(MODERN_PROMPTS) }));
  on('prompts/get', ({ name, arguments: values = {} }, { inputResponses }) => {
    if (name === ASKING) {
      if (!inputResponses) return needs({ user_context: form('Who are you?', 'context') });
      return { messages: [user(text('The user is known.'))] };
    }
    if (!Object.hasOwn(PROMPTS, name)) throw unknown(name);
    return { messages: PROMPTS[name].messages(values) };
  });
  on('completion/complete', () => ({ completion: { values: [], total: 0, hasMore: false } }));
  return server;
}

/** `{isMeant, handle, close}` for requests of this revision; both get the parsed body. */
export function modernHandler() {
  const mcp = createMcpHandler(() => newServer(mcp.notify), { legacy: 'reject' });
  return {
    isMeant: async (request, body) => !(await isLegacyRequest(await toWebRequest(request, body), body)),
    handle: toNodeHandler(mcp),
    close: () => mcp.close(),
  };
}
