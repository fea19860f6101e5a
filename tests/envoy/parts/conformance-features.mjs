// Tools, resources and prompts that the server suite of @modelcontextprotocol/conformance calls by name. They know no SDK: a
// tool gets its arguments and a `call` with `notify`, `ask` and `closeStream`.

import { setTimeout as sleep } from 'node:timers/promises';

/** PNG of one pixel. */
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
/** WAV without samples. */
const WAV = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';

export const text = (words) => ({ type: 'text', text: words });
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const embedded = (uri, mimeType, words) => ({ type: 'resource', resource: { uri, mimeType, text: words } });
export const says = (...content) => ({ content });

const nothing = { type: 'object', properties: {} };
export const strings = (...names) => ({
  type: 'object',
  properties: Object.fromEntries(names.map((name) => [name, { type: 'string' }])),
  required: names,
});

const choices = (...values) => ({ type: 'string', enum: values });
const titled = (...values) => values.map((value) => ({ const: value, title: `The choice ${value}` }));
const several = (items) => ({ type: 'array', minItems: 1, maxItems: 3, items });

/** Form with a default for each primitive type (SEP-1034). */
const DEFAULTS = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { ...choices('active', 'inactive', 'pending'), default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  required: [],
};

/** Form with each kind of choice (SEP-1330). */
const CHOICES = {
  type: 'object',
  properties: {
    untitledSingle: choices('option1', 'option2', 'option3'),
    titledSingle: { type: 'string', oneOf: titled('value1', 'value2', 'value3') },
    legacyEnum: { ...choices('opt1', 'opt2', 'opt3'), enumNames: ['First', 'Second', 'Third'] },
    untitledMulti: several(choices('option1', 'option2', 'option3')),
    titledMulti: several({ anyOf: titled('value1', 'value2', 'value3') }),
  },
  required: [],
};

/** Schema with keywords that a conversion would lose (SEP-1613, SEP-2106). */
const DIALECT = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

/** Tools that ask the client while they run are of the revisions with sessions. */
const asks = (message, requestedSchema) => async (_values, call) => {
  const { action, content } = await call.ask('elicitation/create', { message, requestedSchema });
  return says(text(`action=${action}, content=${JSON.stringify(content ?? {})}`));
};

export const tool = (description, run, inputSchema = nothing) => ({ description, inputSchema, run });

/** Tools by name. */
export const TOOLS = {
  test_simple_text: tool('Returns text', () => says(text('This is a simple text response for testing.'))),
  test_image_content: tool('Returns an image', () => says(image)),
  test_audio_content: tool('Returns a sound', () => says({ type: 'audio', data: WAV, mimeType: 'audio/wav' })),
  test_embedded_resource: tool('Returns a resource', () =>
    says(embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')),
  ),
  test_multiple_content_types: tool('Returns text, an image and a resource', () =>
    says(
      text('Multiple content types test:'),
      image,
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ),
  ),
  test_tool_with_logging: tool('Logs while it runs', async (_values, { notify }) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await notify('notifications/message', { level: 'info', data });
      await sleep(50);
    }
    return says(text('logged'));
  }),
  test_tool_with_progress: tool('Reports progress', async (_values, { notify, progressToken }) => {
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) await notify('notifications/progress', { progressToken, progress, total: 100 });
      await sleep(50);
    }
    return says(text(String(progressToken)));
  }),
  test_error_handling: tool('Fails', () => ({
    ...says(text('This tool intentionally returns an error for testing')),
    isError: true,
  })),
  test_reconnection: tool('Closes its stream before it answers (SEP-1699)', async (_values, { closeStream }) => {
    // Head and first event have left before the stream ends.
    await sleep(50);
    closeStream();
    await sleep(100);
    return says(text('answered on the next stream'));
  }),
  test_sampling: tool(
    'Asks the model of the client',
    async ({ prompt }, { ask }) => {
      const messages = [{ role: 'user', content: text(prompt) }];
      const { content } = await ask('sampling/createMessage', { messages, maxTokens: 100 });
      return says(text(`LLM response: ${content.text}`));
    },
    strings('prompt'),
  ),
  test_elicitation: tool(
    'Asks the user',
    ({ message }, call) => asks(message, strings('response'))({}, call),
    strings('message'),
  ),
  test_elicitation_sep1034_defaults: tool('Asks the user, with defaults', asks('Please check these.', DEFAULTS)),
  test_elicitation_sep1330_enums: tool('Asks the user to choose', asks('Please choose.', CHOICES)),
  json_schema_2020_12_tool: tool('Has a schema of JSON Schema 2020-12', (values) => says(text(JSON.stringify(values))), DIALECT),
};

/** Resources by URI, with what a read returns. */
export const RESOURCES = {
  'test://static-text': { name: 'text', mimeType: 'text/plain', text: 'This is the content of the static text resource.' },
  'test://static-binary': { name: 'image', mimeType: 'image/png', blob: PNG },
  'test://watched-resource': { name: 'watched', mimeType: 'text/plain', text: 'Watched resource content' },
};

export const TEMPLATE = { name: 'template', uriTemplate: 'test://template/{id}/data', mimeType: 'application/json' };

/** Contents of a resource, or undefined. */
export function read(uri) {
  if (Object.hasOwn(RESOURCES, uri)) {
    const { name: _, ...contents } = RESOURCES[uri];
    return [{ uri, ...contents }];
  }
  const [, id] = /^test:\/\/template\/([^/]+)\/data$/.exec(uri) ?? [];
  return id && [{ uri, mimeType: TEMPLATE.mimeType, text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }];
}

export const user = (content) => ({ role: 'user', content });
const prompt = (description, messages, ...names) => ({
  description,
  arguments: names.map((name) => ({ name, required: true })),
  messages,
});

/** Prompts by name. */
export const PROMPTS = {
  test_simple_prompt: prompt('Has no arguments', () => [user(text('This is a simple prompt for testing.'))]),
  test_prompt_with_arguments: prompt(
    'Has two arguments',
    ({ arg1, arg2 }) => [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
    'arg1',
    'arg2',
  ),
  test_prompt_with_embedded_resource: prompt(
    'Embeds a resource',
    ({ resourceUri }) => [
      user(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
      user(text('Please process the resource above.')),
    ],
    'resourceUri',
  ),
  test_prompt_with_image: prompt('Has an image', () => [user(image), user(text('Please look at the image above.'))]),
};

/** A list of the members of an object, without what only the server needs. */
export const listed = (byName, key = 'name') =>
  Object.entries(byName).map(([name, { run: _run, messages: _messages, text: _text, blob: _blob, ...shown }]) => ({
    [key]: name,
    ...shown,
  }));
