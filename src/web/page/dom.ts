/** Small helpers for making and updating elements. No markup is ever parsed from text. */
type Child = Node | string | null | undefined | false

export type Attributes = Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>>

/** Makes an element. Functions become listeners (`click`, `change` …), the rest attributes; undefined and false are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value)
    else setAttribute(element, name, value)
  }
  append(element, children)
  return element
}

/** Replaces what an element holds, unless that is one text which is the same: a selection then stays. */
export function fill(element: Element, ...children: readonly Child[]): void {
  const only = children.length === 1 ? children[0] : undefined
  if (typeof only === 'string' && element.childElementCount === 0) {
    if (element.textContent !== only) element.textContent = only
    return
  }
  element.replaceChildren()
  append(element, children)
}

export function setAttribute(element: Element, name: string, value: string | number | boolean | undefined): void {
  if (value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name)
    return
  }
  const text = value === true ? '' : String(value)
  if (element.getAttribute(name) !== text) element.setAttribute(name, text)
}

function append(element: Element, children: readonly Child[]): void {
  for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child)
}
