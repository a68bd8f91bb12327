// Shows the OpenAPI description of this server: each operation with its parameters, bodies and
// answers, and the schemas that these name.

/** Make an element with text or children. */
function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

/** A table with a heading for each column; rows are lists of texts. */
function table(heads, rows) {
  const head = make("tr", ...heads.map((text) => make("th", text)));
  const body = rows.map((cells) => make("tr", ...cells.map((text) => make("td", text))));
  return make("table", make("thead", head), make("tbody", ...body));
}

/** The name of a schema, or its type. */
function named(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(named).join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.type === "array") return `list of ${named(schema.items)}`;
  return schema.format ?? schema.type ?? "any";
}

/** What a body may be: its media types and their schemas. */
function bodies(content) {
  return Object.entries(content ?? {}).map(([kind, body]) => {
    const what = named(body.schema);
    return what ? `${kind}: ${what}` : kind;
  });
}

function operation(method, path, { description, parameters, requestBody, responses }) {
  const title = make("summary", make("code", `${method.toUpperCase()} ${path}`));
  title.append(make("span", description ?? ""));
  const found = make("details", title);
  if (parameters?.length) {
    const rows = parameters.map((each) => [
      each.name,
      each.in,
      named(each.schema),
      each.required ? "required" : `default ${JSON.stringify(each.schema?.default ?? null)}`,
    ]);
    found.append(make("h2", "Parameters"), table(["name", "in", "type", ""], rows));
  }
  if (requestBody) {
    const rows = bodies(requestBody.content).map((text) => [text]);
    found.append(make("h2", "Body"), table(["media type and content"], rows));
  }
  const answers = Object.entries(responses).map(([status, answer]) => [
    status,
    bodies(answer.content).join("; ") || answer.description,
  ]);
  found.append(make("h2", "Answers"), table(["status", "content"], answers));
  return found;
}

const place = document.getElementById("operations");
try {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error((await answer.json()).detail);
  const description = await answer.json();
  document.getElementById("about").textContent =
    `${description.info.description} Version ${description.info.version}.`;
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, each]) => operation(method, path, each)),
  );
  const schemas = Object.entries(description.components.schemas).map(([name, schema]) =>
    make("details", make("summary", make("code", name)), make("pre", JSON.stringify(schema, null, 2))),
  );
  place.replaceChildren(...operations, make("h2", "Schemas"), ...schemas);
} catch (error) {
  place.replaceChildren(make("p", `The description cannot be read: ${error.message}`));
}
