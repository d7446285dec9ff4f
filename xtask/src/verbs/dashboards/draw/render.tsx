// Draws a dashboard's panels with Grafana's own widgets, from the data of a Prometheus. No Grafana server is involved;
// what its panels do around the widgets (queries, variables, transformations, empty states) is done here in small.
import 'uplot/dist/uPlot.min.css';
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, FieldType, getDisplayProcessor, getFieldDisplayValues, Registry,
  standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame, VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PortalContainer, Table, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';

const { DASH: dash, SECONDS: seconds, VALUES: chosen } = window as any;
const theme = createTheme({ colors: { mode: 'dark' } });
const end = Date.now() / 1000;
const COLUMN = 60, ROW = 36;

const standard = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'thresholds', 'mappings', 'links', 'color', 'fieldMinMax'];
const custom = ['drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'gradientMode', 'showPoints', 'pointSize', 'stacking',
  'axisPlacement', 'axisLabel', 'scaleDistribution', 'hideFrom', 'spanNulls', 'thresholdsStyle', 'lineStyle', 'barAlignment',
  'cellOptions', 'width', 'align'];
const option = (id: string, path: string, more = {}) => ({ id, path, name: id, process: (v: any) => v, shouldApply: () => true, ...more });
const fieldConfigRegistry: any = new Registry(() =>
  [...standard.map((id) => option(id, id)), ...custom.map((id) => option('custom.' + id, id, { isCustom: true }))] as any);
standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((t: any) => [t.id, { id: t.id, name: t.name, transformation: t }])).values()] as any);

const values: Record<string, string> = {};
const filled = (text: string) => text
  .replace(/\$__rate_interval/g, '20s').replace(/\$__range_s/g, String(seconds)).replace(/\$__range/g, `${seconds}s`)
  .replace(/\$\{?(\w+)\}?/g, (all, name) => values[name] ?? all);
const named = (legend: string, labels: any) => legend.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? '');
const ask = async (path: string) => (await fetch(`/prometheus/api/v1/${path}`)).json();

async function frames(panel: any, target: any) {
  const expr = encodeURIComponent(filled(target.expr));
  const answer = await ask(target.instant ? `query?query=${expr}&time=${end}`
    : `query_range?query=${expr}&start=${end - seconds}&end=${end}&step=${Math.max(2, Math.round(seconds / 200))}`);
  if (answer.status !== 'success') throw new Error(answer.error);
  const result = answer.data.result;
  if (target.format === 'table') {
    if (!result.length) return [];
    const labels = [...new Set<string>(result.flatMap((s: any) => Object.keys(s.metric)))].sort();
    const value = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
    return [toDataFrame({ refId: target.refId, fields: [
      { name: 'Time', type: FieldType.time, values: result.map((s: any) => s.value[0] * 1000), config: {} },
      ...labels.map((l) => ({ name: l, type: FieldType.string, values: result.map((s: any) => s.metric[l] ?? ''), config: {} })),
      { name: value, type: FieldType.number, values: result.map((s: any) => +s.value[1]), config: {} },
    ] })];
  }
  return result.map((s: any) => {
    const points = target.instant ? [s.value] : s.values;
    const name = named(target.legendFormat, s.metric);
    return toDataFrame({ refId: target.refId, name, fields: [
      { name: 'Time', type: FieldType.time, values: points.map((v: any) => v[0] * 1000), config: {} },
      { name, type: FieldType.number, labels: s.metric, values: points.map((v: any) => +v[1]), config: { displayNameFromDS: name } },
    ] });
  });
}

async function load(panel: any) {
  try {
    const raw = (await Promise.all(panel.targets.map((t: any) => frames(panel, t)))).flat();
    let data: any[] = raw;
    if (panel.transformations && raw.length) {
      data = await new Promise((done) => transformDataFrame(panel.transformations, raw).subscribe(done));
    }
    const by = panel.options?.sortBy?.[0];
    if (by && data[0]) {
      const key = data[0].fields.find((f: any) => f.name === by.displayName || f.config.displayName === by.displayName);
      if (key) {
        const order = key.values.map((_: any, i: number) => i).sort((a: number, b: number) => key.values[b] > key.values[a] ? 1 : -1);
        for (const f of data[0].fields) f.values = order.map((i: number) => f.values[i]);
      }
    }
    return { data: applyFieldOverrides({ data, fieldConfig: panel.fieldConfig, replaceVariables: filled as any, theme, timeZone: 'utc', fieldConfigRegistry }) };
  } catch (e) {
    return { data: [], error: String(e) };
  }
}

class Fence extends React.Component<any, any> {
  state = { error: null as any };
  static getDerivedStateFromError(error: any) { return { error }; }
  render() { return this.state.error ? <pre data-broken="1">{String(this.state.error.stack).slice(0, 800)}</pre> : this.props.children; }
}

const range = () => {
  const [from, to] = [dateTime((end - seconds) * 1000), dateTime(end * 1000)];
  return { from, to, raw: { from, to } };
};

function Widget({ panel, data, width, height }: any) {
  const empty = !data.some((f: any) => f.length > 0);
  const display = () => getFieldDisplayValues({
    data, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: filled as any, theme,
    timeZone: 'utc', sparkline: false,
  } as any);
  if (panel.type === 'stat') {
    return <BigValue width={width} height={height} value={display()[0].display} colorMode={panel.options.colorMode}
      graphMode={panel.options.graphMode} textMode={panel.options.textMode} theme={theme} />;
  }
  if (empty) {
    return <div style={{ height, display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center', padding: '0 24px', color: theme.colors.text.secondary }}>
      {panel.fieldConfig.defaults.noValue}</div>;
  }
  if (panel.type === 'timeseries') {
    return <TimeSeries frames={data} structureRev={1} width={width} height={height} timeRange={range() as any} timeZone="utc"
      legend={panel.options.legend} options={panel.options}>{undefined as any}</TimeSeries>;
  }
  if (panel.type === 'table') {
    return <Table data={data[0]} width={width} height={height} cellHeight={'sm' as any} />;
  }
  return <VizRepeater source={display()} width={width} height={height} orientation={VizOrientation.Horizontal} itemSpacing={6}
    minVizHeight={16} maxVizHeight={28} minVizWidth={8} getValues={display} renderCounter={1}
    renderValue={({ value, width, height }: any) => <BarGauge width={width} height={height} theme={theme} field={value.field}
      value={value.display} display={getDisplayProcessor({ field: { ...value.field, type: FieldType.number, config: value.field } as any, theme })}
      orientation={VizOrientation.Horizontal} displayMode={panel.options.displayMode} showUnfilled={true} isOverflow={false} />} />;
}

function Panel({ panel, loaded }: any) {
  const { x, y, w, h } = panel.gridPos;
  const place: any = { position: 'absolute', left: x * COLUMN + 4, top: y * ROW + 4, width: w * COLUMN - 6, height: h * ROW - 6 };
  if (panel.type === 'row') {
    return <div style={{ ...place, color: theme.colors.text.primary, font: '500 16px Inter, Helvetica, sans-serif', padding: 6 }}>{panel.title}</div>;
  }
  return <div data-panel={panel.title} data-frames={loaded.data.length} data-error={loaded.error ?? ''} style={place}>
    <PanelChrome title={panel.title} width={place.width} height={place.height} statusMessage={loaded.error}>
      {(width: number, height: number) => <Fence><Widget panel={panel} data={loaded.data} width={width} height={height} /></Fence>}
    </PanelChrome></div>;
}

(async () => {
  for (const v of dash.templating.list.filter((v: any) => v.type === 'query')) {
    const [, series, label] = /label_values\((.*), (\w+)\)/.exec(v.query.query)!;
    const found = (await ask(`label/${label}/values?match[]=${encodeURIComponent(filled(series))}`)).data;
    values[v.name] = chosen[v.name] ?? (v.multi ? '.*' : found[0] ?? '');
  }
  const loaded = await Promise.all(dash.panels.map((p: any) => p.type === 'row' ? { data: [] } : load(p)));
  const title = [dash.title, ...Object.entries(values).filter(([, v]) => v !== '.*').map(([k, v]) => `${k}: ${v}`)].join('  ·  ');
  createRoot(document.getElementById('root')!).render(<ThemeContext.Provider value={theme}><GlobalStyles />
    <div style={{ color: theme.colors.text.primary, font: '500 18px Inter, Helvetica, sans-serif', padding: '10px 12px' }}>{title}</div>
    <div style={{ position: 'relative' }}>{dash.panels.map((p: any, i: number) => <Panel key={p.id} panel={p} loaded={loaded[i]} />)}</div>
    <PortalContainer /></ThemeContext.Provider>);
  setTimeout(() => document.body.setAttribute('data-ready', '1'), 2500);
})();
