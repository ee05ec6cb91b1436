// Types of preact.js, which htm ships without any.
import type { VNode } from "preact";

export { Component, createContext, h, render } from "preact";
export * from "preact/hooks";
export function html(strings: TemplateStringsArray, ...values: any[]): VNode<any>;
