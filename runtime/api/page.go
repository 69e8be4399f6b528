package api

import (
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// wantsPage says whether a browser asks. Java's HttpURLConnection asks for text/html, too, whatever it is to fetch; it is told by what it lists next.
func wantsPage(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/html") && !strings.Contains(accept, "application/json") && !strings.HasPrefix(accept, "text/html, image/gif")
}

// pageStatus is what the page shows of a Status.
type pageStatus struct {
	Type      string
	Connector struct {
		State  string
		Worker string `json:"worker_id"`
		Trace  string
	}
	Rate       *float64 `json:"records_per_second"` // null: nobody can say
	Lag        *int64
	LagSeconds *float64 `json:"lag_seconds"`
}

// pageError bounds the runes of an error on the page.
const pageError = 600

// page is GET / for browsers: one document without anything from elsewhere and without scripts, that loads itself again. Everything that a user can name is escaped.
func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	all, err := h.expanded(r, []string{"status"})
	rows := map[string]struct{ Status pageStatus }{}
	if err == nil {
		var said []byte
		if said, err = json.Marshal(all); err == nil {
			err = json.Unmarshal(said, &rows)
		}
	}
	var b strings.Builder
	b.WriteString(pageHead)
	if err != nil {
		fmt.Fprintf(&b, "<p class=\"bad\" role=\"alert\">%s</p>\n", html.EscapeString(err.Error()))
	}
	states := map[string]int{}
	for _, row := range rows {
		states[row.Status.Connector.State]++
	}
	fmt.Fprintf(&b, "<p>%d connectors", len(rows))
	for _, s := range slices.Sorted(maps.Keys(states)) {
		fmt.Fprintf(&b, " · %d %s", states[s], html.EscapeString(s))
	}
	b.WriteString("</p>\n")
	if len(rows) > 0 {
		b.WriteString("<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Connector</th><th scope=\"col\">Type</th><th scope=\"col\">State</th>" +
			"<th scope=\"col\" class=\"n\">Records/s</th><th scope=\"col\" class=\"n\">Lag, records</th><th scope=\"col\" class=\"n\">Lag, seconds</th>" +
			"<th scope=\"col\">Worker</th><th scope=\"col\">Last error</th></tr></thead>\n<tbody>\n")
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			pageRow(&b, name, rows[name].Status)
		}
		b.WriteString("</tbody></table></div>\n")
	} else if err == nil {
		b.WriteString("<p>None is declared. <code>forebay apply FILE</code> declares those of a file.</p>\n")
	}
	fmt.Fprintf(&b, "<footer>Forebay %s · %s UTC · <a href=\"/openapi.json\">REST API</a></footer>\n</body></html>\n",
		html.EscapeString(h.o.Version), time.Now().UTC().Format(time.DateTime))

	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(b.String())) // the client may have gone
}

func pageRow(b *strings.Builder, name string, s pageStatus) {
	const none = "–"
	rate, lag, seconds := none, none, none
	if s.Rate != nil {
		rate = fmt.Sprintf("%.0f", *s.Rate)
	}
	if s.Lag != nil && *s.Lag >= 0 {
		lag = fmt.Sprint(*s.Lag)
	}
	if s.LagSeconds != nil && *s.LagSeconds >= 0 {
		seconds = fmt.Sprintf("%.0f", *s.LagSeconds)
	}
	class := "ok"
	switch s.Connector.State {
	case "FAILED":
		class = "bad"
	case "RESTARTING", unassigned:
		class = "odd"
	case "PAUSED", "STOPPED":
		class = "off"
	}
	trace := []rune(s.Connector.Trace)
	if len(trace) > pageError {
		trace = append(trace[:pageError], '…')
	}
	e := html.EscapeString
	fmt.Fprintf(b, "<tr><th scope=\"row\">%s</th><td>%s</td><td class=\"%s\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td>%s</td><td class=\"e\">%s</td></tr>\n",
		e(name), e(s.Type), class, e(s.Connector.State), rate, lag, seconds, e(s.Connector.Worker), e(string(trace)))
}

// pageHead is all before the first figure. It is read again every 5 seconds, by the browser itself.
const pageHead = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Forebay</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="5"><link rel="icon" href="data:,">
<style>
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--line:#d5dae0;--dim:#57606a;--ok:#116329;--bad:#b3261e;--odd:#8a5300}
@media (prefers-color-scheme:dark){:root{--fg:#e6e9ed;--bg:#14171a;--line:#373d45;--dim:#9aa4af;--ok:#6fd08c;--bad:#ff8a80;--odd:#f0b35a}}
body{margin:2rem auto;max-width:80rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
h1{font-size:1.4rem;margin:0 0 .5rem}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{padding:.4rem .8rem .4rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);font-weight:400}
thead th{color:var(--dim);white-space:nowrap}tbody th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}
.e{overflow-wrap:anywhere;min-width:16rem}.ok{color:var(--ok)}.bad{color:var(--bad);font-weight:600}.odd{color:var(--odd)}.off,footer{color:var(--dim)}
footer{margin-top:1.5rem;font-size:.875rem}a{color:inherit}
</style></head><body>
<h1>Forebay</h1>
`
