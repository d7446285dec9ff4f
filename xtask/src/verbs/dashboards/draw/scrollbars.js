// The package is CommonJS, and Grafana's modules import its default as Node does: what they would get is the whole module.
export { Scrollbars as default } from './node_modules/react-custom-scrollbars-2/lib/index.js';
