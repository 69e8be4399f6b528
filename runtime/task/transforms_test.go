package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/transform"
)

// steps makes a node of transforms, each written as "type field=value field=value"; a list has commas.
func steps(t testing.TB, side transform.Side, texts ...string) (spec.Node, []spec.Finding) {
	t.Helper()
	flat := map[string]string{}
	for i, text := range texts {
		words := strings.Split(text, " ")
		flat[fmt.Sprintf("transforms.%d.type", i)] = words[0]
		for _, w := range words[1:] {
			k, v, _ := strings.Cut(w, "=")
			flat[fmt.Sprintf("transforms.%d.%s", i, k)] = strings.ReplaceAll(v, "·", " ")
		}
	}
	v, findings := spec.Spec{Fields: []spec.Field{transform.Field(side)}}.Parse(spec.FlatNode(flat))
	return v.Tree("transforms"), findings
}

const (
	change = `{"before":null,"after":{"id":1,"name":"Ann","card":"4111","address":{"city":"Ulm","zip":"89073"}},"source":{"lsn":7,"table":"orders"},"op":"c","ts_ms":1700000000000}`
	del    = `{"before":{"id":1,"name":"Ann","card":"4111","address":{"city":"Ulm","zip":"89073"}},"after":null,"source":{"lsn":8,"table":"orders"},"op":"d","ts_ms":1700000000001}`
)

// cases say what each transform makes of a record: topic, headers and key only where they are given.
var cases = []struct {
	name  string
	steps []string
	side  string // "", source or sink: where it runs; "" both
	in    string
	want  string // "": dropped; "error: …"
}{
	{"no transforms", nil, "", `{"topic":"t","value":{"a":1}}`, `{"topic":"t","value":{"a":1}}`},
	{"filter by topic", []string{`filter when.topic=shop\..*`}, "", `{"topic":"shop.x","value":"a"}`, ""},
	{"filter by topic: the whole of it", []string{`filter when.topic=shop`}, "", `{"topic":"shop.x","value":"a"}`, `{"topic":"shop.x","value":"a"}`},
	{"filter negated", []string{`filter when.topic=shop negate=true`}, "", `{"topic":"shop.x","value":"a"}`, ""},
	{"filter tombstones", []string{`filter when.tombstone=true`}, "", `{"topic":"t","key":"k","value":null}`, ""},
	{"filter what is no tombstone", []string{`filter when.tombstone=false`}, "", `{"topic":"t","key":"k","value":null}`, `{"topic":"t","key":"k","value":null}`},
	{"filter by header", []string{`filter when.header=debug`}, "", `{"topic":"t","headers":{"debug":"1"},"value":"x"}`, ""},
	{"filter by field", []string{`filter when.field=status when.equals=test,3`}, "", `{"topic":"t","value":{"status":3}}`, ""},
	{"filter by field: no such field", []string{`filter when.field=status when.equals=test`}, "", `{"topic":"t","value":{"a":"test"}}`, `{"topic":"t","value":{"a":"test"}}`},
	{"filter by nested field", []string{`filter when.field=a.b when.matches=x.*`}, "", `{"topic":"t","value":{"a":{"b":"xyz"}}}`, ""},
	{"filter by presence", []string{`filter when.field=a`}, "", `{"topic":"t","value":{"a":null}}`, `{"topic":"t","value":{"a":null}}`},
	{"filter by op", []string{`filter when.op=d,t`}, "", `{"topic":"t","value":` + del + `}`, ""},
	{"filter by a change's row", []string{`filter when.field=name when.equals=Ann`}, "", `{"topic":"t","value":` + del + `}`, ""},
	{"a record that is only looked at keeps its bytes", []string{`filter when.field=a when.equals=2`}, "", `{"topic":"t","value":{ "a" : 1.0 }}`, `{"topic":"t","value":{ "a" : 1.0 }}`},

	{"route", []string{`route match=shop\.public\.(.*) to=db.$1`}, "source", `{"topic":"shop.public.orders","value":"x"}`, `{"topic":"db.orders","value":"x"}`},
	{"route: another topic", []string{`route match=shop\.public\.(.*) to=db.$1`}, "source", `{"topic":"crm.public.orders","value":"x"}`, `{"topic":"crm.public.orders","value":"x"}`},
	{"route by name of a group", []string{`route match=shop\.(?P<s>[^.]*)\.(.*) to=${s}_$2`}, "source", `{"topic":"shop.public.orders","value":"x"}`, `{"topic":"public_orders","value":"x"}`},
	{"route by field", []string{`route to=events-{field} field=tenant.id`}, "source", `{"topic":"e","value":{"tenant":{"id":17}}}`, `{"topic":"events-17","value":{"tenant":{"id":17}}}`},
	{"route by a field that is not there", []string{`route to=events-{field} field=tenant`}, "source", `{"topic":"e","value":{"a":1}}`, `error: field 'tenant': there is no such field`},
	{"route by a field that is not there, skipped", []string{`route to=events-{field} field=tenant missing=skip`}, "source", `{"topic":"e","value":{"a":1}}`, `{"topic":"e","value":{"a":1}}`},
	{"route by a field that makes no topic", []string{`route to={field} field=a`}, "source", `{"topic":"e","value":{"a":"x/y"}}`, `error: "x/y" cannot be a topic's name`},
	{"route to an internal topic", []string{`route to={field} field=a`}, "source", `{"topic":"e","value":{"a":"__consumer_offsets"}}`, `error: internal`},
	{"route by time", []string{`route to={topic}-%Y%m%d%H`}, "source", `{"topic":"e","timestamp":"2026-03-04T23:59:00-02:00","value":"x"}`, `{"topic":"e-2026030501","value":"x"}`},

	{"unwrap", []string{`unwrap`}, "", `{"topic":"t","key":{"id":1},"value":` + change + `}`, `{"topic":"t","key":{"id":1},"value":{"id":1,"name":"Ann","card":"4111","address":{"city":"Ulm","zip":"89073"}}}`},
	{"unwrap a delete", []string{`unwrap`}, "", `{"topic":"t","key":{"id":1},"value":` + del + `}`, `{"topic":"t","key":{"id":1},"value":null}`},
	{"unwrap the tombstone behind it", []string{`unwrap`}, "source", `{"topic":"t","key":{"id":1},"value":null}`, ``},
	{"unwrap: a tombstone whose delete is gone", []string{`unwrap`}, "sink", `{"topic":"t","key":{"id":1},"value":null}`, `{"topic":"t","key":{"id":1},"value":null}`},
	{"unwrap: drop deletes, and tombstones", []string{`unwrap deletes=drop`}, "", `{"topic":"t","key":{"id":1},"value":null}`, ``},
	{"unwrap: rewrite deletes, without tombstones", []string{`unwrap deletes=rewrite`}, "", `{"topic":"t","key":{"id":1},"value":null}`, ``},
	{"unwrap: drop deletes", []string{`unwrap deletes=drop`}, "", `{"topic":"t","key":{"id":1},"value":` + del + `}`, ``},
	{"unwrap: rewrite a delete", []string{`unwrap deletes=rewrite`, `keep fields=id,__deleted`}, "", `{"topic":"t","key":{"id":1},"value":` + del + `}`, `{"topic":"t","value":{"id":1,"__deleted":"true"}}`},
	{"unwrap: rewrite another", []string{`unwrap deletes=rewrite`, `keep fields=id,__deleted`}, "", `{"topic":"t","value":` + change + `}`, `{"topic":"t","value":{"id":1,"__deleted":"false"}}`},
	{"unwrap: rewrite with tombstone", []string{`unwrap deletes=rewrite-with-tombstone`}, "", `{"topic":"t","key":{"id":1},"value":null}`, `{"topic":"t","key":{"id":1},"value":null}`},
	{"unwrap with fields", []string{`unwrap add=op,source.lsn,table,ts_ms headers=op`, `drop fields=name,card,address`}, "", `{"topic":"t","value":` + change + `}`,
		`{"topic":"t","headers":{"__op":"c"},"value":{"id":1,"__op":"c","__source_lsn":7,"__table":"orders","__ts_ms":1700000000000}}`},
	{"unwrap with a field that is not there", []string{`unwrap add=xid`}, "", `{"topic":"t","value":` + change + `}`, `error: the envelope has no field 'xid'`},
	{"unwrap what is no change", []string{`unwrap`}, "", `{"topic":"t","value":{"a":1}}`, `{"topic":"t","value":{"a":1}}`},
	{"unwrap a truncate", []string{`unwrap`}, "", `{"topic":"t","value":{"before":{"id":1},"after":null,"source":{"lsn":1},"op":"t"}}`, ``},

	{"insert", []string{`insert field=region value=eu`}, "", `{"topic":"t","value":{"a":1}}`, `{"topic":"t","value":{"a":1,"region":"eu"}}`},
	{"insert over a field", []string{`insert field=a value=eu`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"a":"eu","b":2}}`},
	{"insert into a tombstone", []string{`insert field=a value=eu`}, "", `{"topic":"t","key":"k","value":null}`, `{"topic":"t","key":"k","value":null}`},
	{"insert into a line", []string{`insert field=a value=eu`}, "", `{"topic":"t","value":"line"}`, `error: the value has no fields: it is a string`},
	{"insert the topic", []string{`insert field=_t from=topic`}, "", `{"topic":"t","value":{"a":1}}`, `{"topic":"t","value":{"a":1,"_t":"t"}}`},
	{"insert coordinates", []string{`insert field=p from=partition`, `insert field=o from=offset`}, "sink", `{"topic":"t","partition":3,"offset":9,"value":{}}`, `{"topic":"t","value":{"p":3,"o":9}}`},
	{"insert the time", []string{`insert field=at from=timestamp`}, "", `{"topic":"t","timestamp":"1970-01-01T00:00:01.5Z","value":{}}`, `{"topic":"t","value":{"at":1500}}`},
	{"insert a header", []string{`insert field=h header=host`}, "", `{"topic":"t","headers":{"host":"n1"},"value":{}}`, `{"topic":"t","value":{"h":"n1"}}`},
	{"insert the op", []string{`insert field=op from=op`, `unwrap`, `keep fields=id,op`}, "", `{"topic":"t","value":` + change + `}`, `{"topic":"t","value":{"id":1,"op":"c"}}`},
	{"insert into the key", []string{`insert of=key field=region value=eu`}, "", `{"topic":"t","key":{"id":1},"value":"line"}`, `{"topic":"t","key":{"id":1,"region":"eu"},"value":"line"}`},

	{"rename", []string{`rename fields=a:x,c:y`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"x":1,"b":2}}`},
	{"rename: what has the new name gives way, behind it", []string{`rename fields=a:b`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"b":1}}`},
	{"rename: what has the new name gives way, before it", []string{`rename fields=b:a`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"a":2}}`},
	{"rename: an object that is renamed within gives way", []string{`rename fields=a:b,b.c:d`}, "", `{"topic":"t","value":{"a":1,"b":{"c":2}}}`, `{"topic":"t","value":{"b":1}}`},
	{"rename: two change places", []string{`rename fields=a:b,b:a`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"b":1,"a":2}}`},
	{"rename within", []string{`rename fields=a.b:x`}, "", `{"topic":"t","value":{"a":{"b":1,"c":2}}}`, `{"topic":"t","value":{"a":{"x":1,"c":2}}}`},
	{"drop", []string{`drop fields=a,c.d`}, "", `{"topic":"t","value":{"a":1,"b":2,"c":{"d":1,"e":2}}}`, `{"topic":"t","value":{"b":2,"c":{"e":2}}}`},
	{"keep", []string{`keep fields=b,z`}, "", `{"topic":"t","value":{"a":1,"b":2}}`, `{"topic":"t","value":{"b":2}}`},
	{"mask", []string{`mask fields=s,n,f,b,l,z`}, "", `{"topic":"t","value":{"s":"x","n":5,"f":1.5,"b":true,"l":[1],"z":null}}`, `{"topic":"t","value":{"s":"","n":0,"f":0,"b":false,"l":[],"z":null}}`},
	{"mask with", []string{`mask fields=card with=***`}, "", `{"topic":"t","value":{"card":"4111","n":1}}`, `{"topic":"t","value":{"card":"***","n":1}}`},
	{"mask a number with text", []string{`mask fields=n with=***`}, "", `{"topic":"t","value":{"n":1}}`, `error: field 'n': "***" is not a whole number`},
	{"mask an object", []string{`mask fields=a`}, "", `{"topic":"t","value":{"a":{"b":1}}}`, `error: an object cannot be masked as a whole`},
	{"mask both rows of a change", []string{`mask fields=card,address.zip`}, "", `{"topic":"t","value":` + del + `}`,
		`{"topic":"t","value":{"before":{"id":1,"name":"Ann","card":"","address":{"city":"Ulm","zip":""}},"after":null,"source":{"lsn":8,"table":"orders"},"op":"d","ts_ms":1700000000001,"ts_us":1700000000001000,"ts_ns":1700000000001000000,"transaction":null}}`},
	{"a condition", []string{`mask fields=a when.field=b when.equals=1`}, "", `{"topic":"t","value":{"a":"x","b":2}}`, `{"topic":"t","value":{"a":"x","b":2}}`},

	{"hoist a line", []string{`hoist field=line`}, "", `{"topic":"t","value":"GET /"}`, `{"topic":"t","value":{"line":"GET /"}}`},
	{"hoist a tombstone", []string{`hoist field=line`}, "", `{"topic":"t","key":"k","value":null}`, `{"topic":"t","key":"k","value":null}`},
	{"hoist a change", []string{`hoist field=line`}, "", `{"topic":"t","value":` + change + `}`, `error: row change`},
	{"extract", []string{`extract field=a`}, "", `{"topic":"t","value":{"a":{"b":1}}}`, `{"topic":"t","value":{"b":1}}`},
	{"extract a text", []string{`extract field=a`}, "", `{"topic":"t","value":{"a":"text"}}`, `{"topic":"t","value":"text"}`},
	{"extract a number of the key", []string{`extract of=key field=id`}, "", `{"topic":"t","key":{"id":1},"value":"x"}`, `{"topic":"t","key":"1","value":"x"}`},
	{"extract null", []string{`extract field=a`}, "", `{"topic":"t","key":"k","value":{"a":null}}`, `{"topic":"t","key":"k","value":null}`},
	{"extract what is not there", []string{`extract field=z`}, "", `{"topic":"t","value":{"a":1}}`, `error: field 'z': there is no such field`},
	{"key", []string{`key fields=b,a`}, "", `{"topic":"t","key":"old","value":{"a":1,"b":"x","c":2}}`, `{"topic":"t","key":{"b":"x","a":1},"value":{"a":1,"b":"x","c":2}}`},
	{"key of a change", []string{`key fields=name`}, "", `{"topic":"t","value":` + del + `}`, `{"topic":"t","key":{"name":"Ann"}}`},
	{"key of what is not there", []string{`key fields=z`}, "", `{"topic":"t","value":{"a":1}}`, `error: field 'z'`},
	{"cast", []string{`cast fields=i:string,s:int32,f:int64,b:int16,t:boolean,z:int64`}, "", `{"topic":"t","value":{"i":5,"s":"7","f":-2.9,"b":true,"t":"TRUE","z":null}}`, `{"topic":"t","value":{"i":"5","s":7,"f":-2,"b":1,"t":true,"z":null}}`},
	{"cast: a number that does not fit", []string{`cast fields=i:int16`}, "", `{"topic":"t","value":{"i":70000}}`, `error: field 'i': 70000 does not fit int16`},
	{"cast: no number", []string{`cast fields=i:int16`}, "", `{"topic":"t","value":{"i":"x"}}`, `error: field 'i': "x" is not a whole number`},
	{"cast an object", []string{`cast fields=i:string`}, "", `{"topic":"t","value":{"i":{"a":1}}}`, `error: an object cannot be cast`},
	{"a float from a million on is a text without an exponent", []string{`cast fields=a:string,b:string,c:string,d:string`, `header name=h field=e`, `filter when.field=f when.equals=1000000`}, "", `{"topic":"t","value":{"a":1234567.5,"b":-1e6,"c":0.000001,"d":1e21,"e":2000000.0,"f":1}}`, `{"topic":"t","headers":{"h":"2000000"},"value":{"a":"1234567.5","b":"-1000000","c":"0.000001","d":"1e+21","e":2000000,"f":1}}`},
	{"a float from a million on is compared without an exponent", []string{`filter when.field=a when.equals=1000000`}, "", `{"topic":"t","value":{"a":1000000.0}}`, ``},
	{"a float of 32 bits, and what is no number", []string{`cast fields=a:string,b:string,c:string`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"float","field":"a"},{"type":"double","field":"b"},{"type":"double","field":"c"}]},"payload":{"a":16777216,"b":"-Infinity","c":"NaN"}}}`, `{"topic":"t","value":{"a":"16777216","b":"-Infinity","c":"NaN"}}`},
	{"flatten", []string{`flatten delimiter=_`}, "", `{"topic":"t","value":{"a":{"b":1,"c":{"d":[1]}},"e":null}}`, `{"topic":"t","value":{"a_b":1,"a_c_d":[1],"e":null}}`},
	{"flatten: two of a name", []string{`flatten`}, "", `{"topic":"t","value":{"a":{"b":1},"a.b":2}}`, `error: two fields would be called 'a.b'`},
	{"flatten a change", []string{`flatten`, `unwrap`, `keep fields=address.city`}, "", `{"topic":"t","value":` + change + `}`, `{"topic":"t","value":{"address.city":"Ulm"}}`},
	{"timestamp to string", []string{`timestamp fields=a,b to=string format=%Y-%m-%d·%H:%M:%S%f`}, "", `{"topic":"t","value":{"a":1700000000123,"b":null}}`, `{"topic":"t","value":{"a":"2023-11-14 22:13:20.123","b":null}}`},
	{"timestamp from string", []string{`timestamp fields=a to=unix unit=s`}, "", `{"topic":"t","value":{"a":"2023-11-14T22:13:20Z"}}`, `{"topic":"t","value":{"a":1700000000}}`},
	{"timestamp before 1970", []string{`timestamp fields=a to=date`}, "", `{"topic":"t","value":{"a":-1}}`, `{"topic":"t","value":{"a":-1}}`},
	{"timestamp by its type", []string{`timestamp fields=a to=string`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"name":"io.debezium.time.Date","field":"a"}],"optional":false},"payload":{"a":19675}}}`, `{"topic":"t","value":{"a":"2023-11-14T00:00:00Z"}}`},
	{"timestamp: microseconds do not reach that far", []string{`timestamp fields=a to=unix unit=us`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"name":"io.debezium.time.Date","field":"a"}],"optional":false},"payload":{"a":2147483647}}}`, `error: does not fit`},
	{"timestamp: the last nanosecond's year", []string{`timestamp fields=a to=unix unit=ns format=%Y`}, "", `{"topic":"t","value":{"a":"2261"}}`, `{"topic":"t","value":{"a":9183110400000000000}}`},
	{"timestamp: nanoseconds do not reach that far", []string{`timestamp fields=a to=unix unit=ns format=%Y`}, "", `{"topic":"t","value":{"a":"2263"}}`, `error: does not fit`},
	{"timestamp of a time of day", []string{`timestamp fields=a,b,c,d to=string format=%H:%M:%S%f`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int64","name":"io.debezium.time.MicroTime","field":"a"},{"type":"int32","name":"io.debezium.time.Time","field":"b"},{"type":"int64","name":"io.debezium.time.NanoTime","field":"c"},{"type":"int32","name":"org.apache.kafka.connect.data.Time","field":"d"}]},"payload":{"a":45296000001,"b":45296001,"c":45296000000001,"d":45296000}}}`, `{"topic":"t","value":{"a":"12:34:56.000001","b":"12:34:56.001","c":"12:34:56.000000001","d":"12:34:56"}}`},
	{"timestamp of an interval", []string{`timestamp fields=a to=string`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int64","name":"io.debezium.time.MicroDuration","field":"a"}]},"payload":{"a":1}}}`, `error: field 'a': a number of type io.debezium.time.MicroDuration is no point in time`},
	{"timestamp of a year", []string{`timestamp fields=a to=unix`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int32","name":"io.debezium.time.Year","field":"a"}]},"payload":{"a":2026}}}`, `error: io.debezium.time.Year`},
	{"timestamp: no such day", []string{`timestamp fields=a to=date format=%Y-%m-%d`}, "", `{"topic":"t","value":{"a":"2023-02-31"}}`, `error: "2023-02-31" is not a time like %Y-%m-%d`},
	{"header", []string{`header name=r value=eu`}, "", `{"topic":"t","headers":{"a":"1"},"value":"x"}`, `{"topic":"t","headers":{"a":"1","r":"eu"},"value":"x"}`},
	{"header of a field", []string{`header name=r field=a.b`, `header name=s field=zz`}, "", `{"topic":"t","value":{"a":{"b":5}}}`, `{"topic":"t","headers":{"r":"5"},"value":{"a":{"b":5}}}`},
	{"drop headers", []string{`drop-headers names=a`}, "", `{"topic":"t","headers":{"a":"1","b":"2"},"value":"x"}`, `{"topic":"t","headers":{"a":"","b":"2"},"value":"x"}`},
	{"jq", []string{`jq program=.total=.price*.count|del(.note)`}, "", `{"topic":"t","value":{"price":2.5,"count":4,"note":"x"}}`, `{"topic":"t","value":{"count":4,"price":2.5,"total":10}}`},
	{"jq keeps all digits", []string{`jq program=.c=1`}, "", `{"topic":"t","value":{"a":12345678901234567890123,"b":0.12345678901234567890,"d":1.50}}`, `{"topic":"t","value":{"a":12345678901234567890123,"b":0.12345678901234567890,"c":1,"d":1.50}}`},
	{"jq drops", []string{`jq program=select(.a>1)`}, "", `{"topic":"t","value":{"a":1}}`, ``},
	{"jq makes a tombstone", []string{`jq program=null`}, "", `{"topic":"t","key":"k","value":{"a":1}}`, `{"topic":"t","key":"k","value":null}`},
	{"jq leaves a tombstone", []string{`jq program=1`}, "", `{"topic":"t","key":"k","value":null}`, `{"topic":"t","key":"k","value":null}`},
	{"jq of a text", []string{`jq program={line:.}`}, "", `{"topic":"t","value":"GET /"}`, `{"topic":"t","value":{"line":"GET /"}}`},
	{"jq of the key, with the value", []string{`jq of=key program=$value.a.id`}, "", `{"topic":"t","key":{"old":1},"value":{ "a" : {"id":7}}}`, `{"topic":"t","key":"7","value":{ "a" : {"id":7}}}`},
	{"jq leaves the key's bytes", []string{`jq program=.a`}, "", `{"topic":"t","key":{ "old" : 1.0 },"value":{"a":[1,2]}}`, `{"topic":"t","key":{ "old" : 1.0 },"value":[1,2]}`},
	{"jq knows the record", []string{`jq program=[$topic,$headers.host,$timestamp,$key]`}, "", `{"topic":"t","key":"k","timestamp":"1970-01-01T00:00:01Z","headers":{"host":"n1"},"value":"x"}`, `{"topic":"t","value":["t","n1",1000,"k"]}`},
	{"jq knows coordinates", []string{`jq program=[$partition,$offset]`}, "sink", `{"topic":"t","partition":3,"offset":9,"value":"x"}`, `{"topic":"t","value":[3,9]}`},
	{"jq knows no coordinates", []string{`jq program=[$partition,$offset]`}, "source", `{"topic":"t","value":"x"}`, `{"topic":"t","value":[null,null]}`},
	{"jq of a change", []string{`jq program=.a`}, "", `{"topic":"t","value":` + change + `}`, `error: row change`},
	{"jq of an unwrapped change, and on", []string{`unwrap`, `jq program=.address|.n=1`, `rename fields=zip:code`, `drop fields=n`}, "", `{"topic":"t","key":{"id":1},"value":` + change + `}`, `{"topic":"t","key":{"id":1},"value":{"city":"Ulm","code":"89073"}}`},
	{"jq twice", []string{`jq program=.a`, `jq program=.b`}, "", `{"topic":"t","value":{"a":{"b":"x"}}}`, `{"topic":"t","value":"x"}`},
	{"jq of typed bytes", []string{`jq program=.a+1`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"a"}],"optional":false},"payload":{"a":41}}}`, `{"topic":"t","value":"42"}`},
	{"jq makes a text that looks like a number", []string{`jq program=.a`, `hoist field=f`}, "", `{"topic":"t","value":{"a":"42"}}`, `{"topic":"t","value":{"f":"42"}}`},
	{"jq with two results", []string{`jq program=.[]`}, "", `{"topic":"t","value":[1,2]}`, `error: more than one result`},
	{"jq that fails", []string{`jq program=error("no")`}, "", `{"topic":"t","value":1}`, `error: the program failed: error: no`},
	{"what is not touched stays what it is", []string{`drop fields=secret`}, "", `{"topic":"t","value":{"secret":"x","prices":[1,2.5,"a"],"items":[{"a":1},{ "b" : 2 }],"id":12345678901234567890,"pi":3.14159265358979323846,"small":1e-400,"f":1.50,"nested":{"z":[null,1]}}}`, `{"topic":"t","value":{"prices":[1,2.5,"a"],"items":[{"a":1},{ "b" : 2 }],"id":12345678901234567890,"pi":3.14159265358979323846,"small":1e-400,"f":1.5,"nested":{"z":[null,1]}}}`},
	{"what is not touched stays what it is, twice", []string{`insert field=x value=y`, `drop fields=x,secret`}, "", `{"topic":"t","value":{"secret":"x","prices":[1,2.5,"a"],"items":[{"a":1},{ "b" : 2 }],"id":12345678901234567890,"pi":3.14159265358979323846,"small":1e-400,"f":1.50,"nested":{"z":[null,1]}}}`, `{"topic":"t","value":{"prices":[1,2.5,"a"],"items":[{"a":1},{ "b" : 2 }],"id":12345678901234567890,"pi":3.14159265358979323846,"small":1e-400,"f":1.5,"nested":{"z":[null,1]}}}`},
	{"an array of several types is masked as a text", []string{`mask fields=a`, `mask fields=b with=***`}, "", `{"topic":"t","value":{"a":[1,"x"],"b":[1,"x"],"c":[1,"x"]}}`, `{"topic":"t","value":{"a":"","b":"***","c":[1,"x"]}}`},
	{"an array of several types is a text, in a text", []string{`cast fields=a:string`, `header name=h field=b`}, "", `{"topic":"t","value":{"a":[1,"x"],"b":[1,"x"]}}`, `{"topic":"t","headers":{"h":"[1,\"x\"]"},"value":{"a":"[1,\"x\"]","b":[1,"x"]}}`},
	{"an array of several types as the value, and as the key", []string{`key fields=a`, `extract field=a`}, "", `{"topic":"t","value":{"a":[1,"x"]}}`, `{"topic":"t","key":{"a":[1,"x"]},"value":[1,"x"]}`},
	{"all digits of a number are compared", []string{`filter when.field=a when.equals=12345678901234567890`}, "", `{"topic":"t","value":{"a":12345678901234567890}}`, ``},
	{"key leaves the value's bytes", []string{`key fields=id`}, "", `{"topic":"t","value":{ "id" : 1.0, "p":[1,2.5]}}`, `{"topic":"t","key":{"id":1},"value":{ "id" : 1.0, "p":[1,2.5]}}`},
	{"mask leaves the key's bytes", []string{`mask fields=a`}, "", `{"topic":"t","key":{ "id" : 1.0 },"value":{"a":"x"}}`, `{"topic":"t","key":{ "id" : 1.0 },"value":{"a":""}}`},
	{"a change's row before it with other types", []string{`mask fields=qty,card`}, "", `{"topic":"t","value":{"before":{"qty":null,"card":"1","n":[1,"x"]},"after":{"qty":5,"card":"2"},"source":{"lsn":1},"op":"u","ts_ms":1}}`,
		`{"topic":"t","value":{"before":{"qty":null,"card":"","n":[1,"x"]},"after":{"qty":0,"card":""},"source":{"lsn":1},"op":"u","ts_ms":1,"ts_us":1000,"ts_ns":1000000,"transaction":null}}`},
	{"a change's row before it with other types, of which something goes that the row after it does not have", []string{`drop fields=card`, `insert field=x value=y`}, "", `{"topic":"t","value":{"before":{"card":"1","a":1},"after":{"a":1.5},"source":{"lsn":1},"op":"u","ts_ms":1}}`,
		`{"topic":"t","value":{"before":{"a":1,"x":"y"},"after":{"a":1.5,"x":"y"},"source":{"lsn":1},"op":"u","ts_ms":1,"ts_us":1000,"ts_ns":1000000,"transaction":null}}`},
	{"a change's row before it with other declared types", []string{`mask fields=a`}, "", `{"topic":"t","value":{"schema":{"type":"struct","fields":[{"type":"struct","field":"before","fields":[{"type":"int32","field":"a"}]},{"type":"struct","field":"after","fields":[{"type":"int64","field":"a"}]},{"type":"struct","field":"source","fields":[]},{"type":"string","field":"op"}]},"payload":{"before":{"a":1},"after":{"a":2},"source":{},"op":"u"}}}`, `error: other types`},
	{"an error names the transform", []string{`drop fields=x`, `extract field=z`}, "", `{"topic":"t","value":{"a":1}}`, `error: transform 2 (extract)`},
}

func TestTransforms(t *testing.T) {
	for _, c := range cases {
		for _, side := range []transform.Side{transform.Source, transform.Sink} {
			if c.side != "" && c.side != side.String() {
				continue
			}
			t.Run(c.name+" "+side.String(), func(t *testing.T) {
				n, findings := steps(t, side, c.steps...)
				if len(findings) > 0 {
					t.Fatal(findings)
				}
				trial, err := NewTrial(n, side == transform.Sink, converter.Format{})
				if err != nil {
					t.Fatal(err)
				}
				var in RecordText
				if err := json.Unmarshal([]byte(c.in), &in); err != nil {
					t.Fatal(err)
				}
				// Twice: the second time everything is in the caches.
				for range 2 {
					got, err := trial.Apply(in)
					if what, bad := strings.CutPrefix(c.want, "error: "); bad {
						var e *transform.Error
						if !errors.As(err, &e) || !strings.Contains(err.Error(), what) || e.Hint == "" {
							t.Fatalf("got %v %v, want the error %q with a hint", got, err, what)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if c.want == "" {
						if got != nil {
							t.Fatalf("not dropped: %+v", got)
						}
						continue
					}
					var want RecordText
					if err := json.Unmarshal([]byte(c.want), &want); err != nil {
						t.Fatal(err)
					}
					if got == nil {
						t.Fatal("dropped")
					}
					text := func(j json.RawMessage) string {
						if string(j) == "null" {
							return ""
						}
						return string(j)
					}
					if got.Topic != want.Topic || want.Value != nil && text(got.Value) != text(want.Value) || want.Key != nil && text(got.Key) != text(want.Key) {
						t.Errorf("got  %s %s %s\nwant %s %s %s", got.Topic, got.Key, got.Value, want.Topic, want.Key, want.Value)
					}
					for k, v := range want.Headers {
						if got.Headers[k] != v {
							t.Errorf("header %s is %q, not %q", k, got.Headers[k], v)
						}
					}
				}
			})
		}
	}
}

// TestBadTransforms: every mistake is found before anything runs, with advice.
func TestBadTransforms(t *testing.T) {
	for _, c := range []struct {
		side        transform.Side
		steps, want string
	}{
		{0, "masc fields=a", "no transform type 'masc' did you mean 'mask'?"},
		{0, "org.apache.kafka.connect.transforms.MaskField$Value fields=a", "Kafka Connect's org.apache.kafka.connect.transforms.MaskField$Value is 'mask' here"},
		{0, "mask feilds=a", "transform 1 (mask): unknown field 'feilds' did you mean 'fields'?"},
		{0, "mask", "field 'fields' is required"},
		{0, "mask fields=a when.topc=x", "unknown field 'when.topc' did you mean 'when.topic'?"},
		{0, "mask fields=a when.topic=(", "is not a regular expression"},
		{0, "mask fields=a when.op=x", `"x" is not one of r, c, u, d, t`},
		{0, "mask fields=a when.equals=x", "about a field add `when.field`"},
		{0, "mask fields=a negate=true", "there is none add `when`"},
		{0, "filter", "every record"},
		{0, "rename fields=a", `"a" is not old:new`},
		{0, "insert field=a", "give one of"},
		{0, "insert field=a value=x from=topic", "give one of"},
		{0, "insert field=a from=offset", "no offset before it is in the log"},
		{1, "route to=x", "a sink's records keep the topic"},
		{0, "route to=$1", "a group that `match` does not have"},
		{0, "route to={x}", "a brace that says nothing"},
		{0, "route to=%y", "a % that says nothing"},
		{0, "route to=x field=a", "go together"},
		{0, "cast fields=a:int", "is not field:type"},
		{0, "timestamp fields=a to=string format=yyyy-MM-dd", "a Java pattern"},
		{0, "timestamp fields=a to=time", `"time" is not one of`},
		{0, "header name=a", "give one of"},
		{0, "unwrap deletes=tombstones", "did you mean 'tombstone'?"},
		{0, "jq program=.a|", "not a jq program"},
		{0, "jq program=nosuch(1)", "nosuch/1"},
		{0, "jq program=.a=now", "the program calls now"},
		{0, "jq program=def·f:·[env];·f", "the program calls env"},
		{0, "jq program=$__prog_args", "not a jq program"},
		{0, "jq program=import·\"x\"·as·x;·.", "not a jq program"},
	} {
		_, findings := steps(t, c.side, c.steps)
		found := ""
		for _, f := range findings {
			found += f.Path + ": " + f.Message + " " + f.Hint + "\n"
		}
		if !strings.Contains(found, c.want) || !strings.HasPrefix(found, "transforms.0") {
			t.Errorf("%s: found %q, not %q", c.steps, found, c.want)
		}
	}
}

// A typed record's types survive, and what a transform has seen at a sink is not decoded again.
func TestSinkKeepsTypes(t *testing.T) {
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int32}}, {Name: "day", Schema: &schema.Schema{Kind: schema.Int32, Name: "io.debezium.time.Date", Version: 1}}}}
	in := connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.StructOf(schema.Int32Of(1), schema.Int32Of(2))}}
	_, e, err := converter.NewEncoder(converter.Format{}).Encode(nil, &in)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := steps(t, transform.Sink, "rename fields=day:date")
	c, err := NewSinkChain(n, converter.NewDecoder(func(string) (converter.Entry, error) { return *e.New, nil }))
	if err != nil {
		t.Fatal(err)
	}
	r := connectors.Record{Topic: "t", Offset: 5, RawValue: e.Value, Headers: []connectors.Header{{Key: "a"}, {Key: converter.SchemaHeader, Value: e.SchemaID}}}
	if keep, err := c.Apply(&r); err != nil || !keep {
		t.Fatal(keep, err)
	}
	if err := c.Decode(&r); err != nil {
		t.Fatal(err)
	}
	s := r.Value.Schema
	if string(r.RawValue) != `{"id":1,"date":2}` || s.Fields[1].Name != "date" || s.Fields[1].Schema.Name != "io.debezium.time.Date" || s.Fields[0].Schema.Kind != schema.Int32 {
		t.Errorf("%s %s", r.RawValue, s.AppendJSON(nil))
	}
	if len(r.Headers) != 2 || string(r.Headers[1].Value) == string(e.SchemaID) {
		t.Errorf("the header still names the old types: %v", r.Headers)
	}
}

// What a transform does not touch is the same JSON at the far end, though a source's transform makes typed records of it, and a sink's reads those.
// Beside a declared schema, an array of several types is the text that the schema says.
func TestUntouchedFromEndToEnd(t *testing.T) {
	const (
		odd    = `"p":[1,2.5,{"a":null}],"id":12345678901234567890,"pi":3.14159265358979323846`
		quoted = `"p":"[1,2.5,{\"a\":null}]","id":12345678901234567890,"pi":3.14159265358979323846`
		change = `{"before":{"id":1,"n":null},"after":{` + odd + `},"source":{},"op":"u","ts_ms":1}`
	)
	for _, c := range []struct {
		format           converter.Format
		step, value      string
		appended, landed string // parts of it; "" where it cannot be written
		declared         bool   // by the header
	}{
		{converter.Format{}, "insert field=x value=y", "{" + odd + "}", "{" + odd + `,"x":"y"}`, "{" + odd + `,"x":"y","z":"z"}`, true},
		{converter.Format{Schemas: true}, "insert field=x value=y", "{" + odd + "}", `"payload":{` + quoted + `,"x":"y"}`, "{" + quoted + `,"x":"y","z":"z"}`, true},
		{converter.Format{}, "key fields=pi", "{" + odd + "}", "{" + odd + "}", "{" + odd + `,"z":"z"}`, true},
		{converter.Format{}, "drop fields=x", change, change, `{"before":{"id":1,"n":null,"z":"z"},"after":{` + odd + `,"z":"z"}`, false},
		{converter.Format{}, "insert field=x value=y", change, `{"before":{"id":1,"n":null,"x":"y"},"after":{` + odd + `,"x":"y"}`, `{"before":{"id":1,"n":null,"x":"y","z":"z"},"after":{` + odd + `,"x":"y","z":"z"}`, false},
		{converter.Format{Envelope: converter.Plain}, "insert field=x value=y", change, "{" + odd + `,"x":"y"}`, "{" + odd + `,"x":"y","z":"z"}`, true},
		{converter.Format{Schemas: true}, "insert field=x value=y", change, "", "", false},
	} {
		n, _ := steps(t, transform.Source, c.step)
		chain, err := SourceChain(n)
		if err != nil {
			t.Fatal(err)
		}
		r := connectors.Record{Topic: "t", RawKey: []byte(`{ "k" : 1 }`), RawValue: []byte(c.value)}
		if keep, err := chain.Apply(connectors.NewBatch(1<<10), &r); err != nil || !keep {
			t.Fatal(keep, err)
		}
		_, e, err := converter.NewEncoder(c.format).Encode(nil, &r)
		if c.appended == "" {
			if err == nil || !strings.Contains(err.Error(), "the rows before and after the change") || e.New != nil {
				t.Errorf("%s: %v", c.step, err)
			}
			continue
		}
		if err != nil || !strings.Contains(string(e.Value), c.appended) || (e.SchemaID != nil) != c.declared || (e.New != nil) != c.declared {
			t.Errorf("%s: %v: appended %s with the header %q", c.step, err, e.Value, e.SchemaID)
			continue
		}
		in := connectors.Record{Topic: "t", RawKey: e.Key, RawValue: e.Value}
		if c.declared {
			in.Headers = []connectors.Header{{Key: converter.SchemaHeader, Value: e.SchemaID}}
		}
		n, _ = steps(t, transform.Sink, "insert field=z value=z")
		sink, err := NewSinkChain(n, converter.NewDecoder(func(string) (converter.Entry, error) { return *e.New, nil }))
		if err != nil {
			t.Fatal(err)
		}
		if keep, err := sink.Apply(&in); err != nil || !keep {
			t.Fatal(keep, err)
		}
		if !strings.Contains(string(in.RawValue), c.landed) {
			t.Errorf("%s: landed\n%s, not\n%s", c.step, in.RawValue, c.landed)
		}
		if in.Key.Schema == nil || in.Key.Schema.Kind != schema.Struct || in.Change != nil && !in.Change.Before.IsNull() {
			t.Errorf("%s: a sink sees %+v and %+v", c.step, in.Key, in.Change)
		}
	}
}

// A column that PostgreSQL left out because it did not change is masked like any other: whoever reads the change alone must not see that it was not.
func TestMaskOfWhatWasNotSent(t *testing.T) {
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "card", Schema: &schema.Schema{Kind: schema.String}}}}
	n, _ := steps(t, transform.Source, "mask fields=card with=***")
	c, err := SourceChain(n)
	if err != nil {
		t.Fatal(err)
	}
	r := connectors.Record{Topic: "t", Change: &connectors.Change{Op: connectors.OpUpdate, Row: row, After: schema.StructOf(schema.Value{Kind: schema.Unavailable})}}
	if keep, err := c.Apply(connectors.NewBatch(1<<10), &r); err != nil || !keep {
		t.Fatal(keep, err)
	}
	if v := r.Change.After.List[0]; v.Kind != schema.String || string(v.Data) != "***" {
		t.Errorf("%v %q", v.Kind, v.Data)
	}
}

// A document's delete without an image becomes its key; a record that has none cannot be rewritten, and says so.
func TestUnwrapOfADocumentThatIsGone(t *testing.T) {
	n, _ := steps(t, transform.Source, "unwrap deletes=rewrite")
	c, err := SourceChain(n)
	if err != nil {
		t.Fatal(err)
	}
	id := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.String}}}}
	for name, x := range map[string]struct {
		key  connectors.Datum
		want string
	}{
		"key":        {connectors.Datum{Schema: id, Value: schema.StructOf(schema.StringOf("7"))}, `{"id":"7","__deleted":"true"}`},
		"no key":     {connectors.Datum{}, ""},
		"a text key": {connectors.Datum{Schema: id.Fields[0].Schema, Value: schema.StringOf("7")}, ""},
	} {
		r := connectors.Record{Topic: "t", Key: x.key, Change: &connectors.Change{Op: connectors.OpDelete, Row: schema.DocumentOf(&schema.Schema{Kind: schema.String})}}
		_, err := c.Apply(connectors.NewBatch(1<<10), &r)
		var e *transform.Error
		if x.want == "" {
			if !errors.As(err, &e) || !strings.Contains(err.Error(), "without an image") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		_, out, eerr := converter.NewEncoder(converter.Format{}).Encode(nil, &r)
		if err != nil || eerr != nil || string(out.Value) != x.want {
			t.Errorf("%s: %v %v %s", name, err, eerr, out.Value)
		}
	}
}

// TestTopicsOfAChain: the topics that a source's transforms make of its own, where that is certain.
func TestTopicsOfAChain(t *testing.T) {
	for _, c := range []struct {
		steps []string
		to    string
		sure  bool
	}{
		{nil, "shop.orders", true},
		{[]string{`route match=shop\.(.*) to=$1`}, "orders", true},
		{[]string{`route match=crm\.(.*) to=$1`}, "shop.orders", true},
		{[]string{`route match=shop\.(.*) to=a.$1`, `route match=a\.(.*) to=b.$1`}, "b.orders", true},
		{[]string{`filter when.topic=shop.*`}, "", true},
		{[]string{`filter when.topic=shop.* negate=true`}, "shop.orders", true},
		{[]string{`filter when.tombstone=true`}, "shop.orders", true},
		{[]string{`route to={field} field=a`}, "", false},
		{[]string{`route to=x when.field=a`}, "", false},
		{[]string{`mask fields=a when.field=a`}, "shop.orders", true},
	} {
		n, findings := steps(t, transform.Source, c.steps...)
		chain, err := SourceChain(n)
		if err != nil || len(findings) > 0 {
			t.Fatal(err, findings)
		}
		if to, sure := chain.Topic("shop.orders"); to != c.to || sure != c.sure {
			t.Errorf("%v: %q, %v", c.steps, to, sure)
		}
	}
}

// FuzzTransforms: whatever a record holds, no transform panics, and what comes out can be read again.
func FuzzTransforms(f *testing.F) {
	for i := range cases {
		var in RecordText
		if json.Unmarshal([]byte(cases[i].in), &in) == nil {
			f.Add(i, []byte(in.Key), []byte(in.Value))
		}
	}
	f.Fuzz(func(t *testing.T, i int, key, value []byte) {
		if i < 0 {
			i = -(i + 1)
		}
		c := cases[i%len(cases)]
		for _, side := range []transform.Side{transform.Source, transform.Sink} {
			n, findings := steps(t, side, c.steps...)
			if len(findings) > 0 {
				continue // a transform of the other side
			}
			trial, err := NewTrial(n, side == transform.Sink, converter.Format{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := trial.Apply(RecordText{Topic: "t", Key: key, Value: value})
			if err != nil || out == nil {
				continue
			}
			if len(out.Value) > 0 && !json.Valid(out.Value) || len(out.Key) > 0 && !json.Valid(out.Key) {
				t.Fatalf("%s: %q %q", c.name, out.Key, out.Value)
			}
		}
	})
}

// BenchmarkTransform moves changes of a row of eight columns through one transform each; an op is a record.
func BenchmarkTransform(b *testing.B) {
	row := &schema.Schema{Kind: schema.Struct}
	v := schema.Value{Kind: schema.Struct}
	for i := range 8 {
		row.Fields = append(row.Fields, schema.Field{Name: fmt.Sprintf("c%d", i), Schema: &schema.Schema{Kind: schema.String, Optional: true}})
		v.List = append(v.List, schema.StringOf("12"))
	}
	ch := &connectors.Change{Op: connectors.OpUpdate, Row: row, Before: v, After: v}
	for _, text := range []string{"filter when.field=c3 when.equals=x", "filter when.topic=x", "route match=(.*) to=x.$1", "route to=x-{field} field=c1", "unwrap", "unwrap add=op deletes=rewrite",
		"insert field=x value=y", "rename fields=c1:d1", "drop fields=c2", "keep fields=c2,c3", "mask fields=c4", "key fields=c1", "cast fields=c5:int64", "flatten", "timestamp fields=c6 to=date format=%d", "header name=h field=c1", "unwrap;jq program=.c1=.c2"} {
		b.Run(strings.ReplaceAll(text, " ", ","), func(b *testing.B) {
			n, findings := steps(b, transform.Source, strings.Split(text, ";")...)
			c, err := SourceChain(n)
			if err != nil || len(findings) > 0 {
				b.Fatal(err, findings)
			}
			batch := connectors.NewBatch(1 << 20)
			b.ReportAllocs()
			var r connectors.Record // as in a batch: no allocation of its own
			for i := 0; b.Loop(); i++ {
				if i%1000 == 0 {
					batch.Reset()
				}
				r = connectors.Record{Topic: "t", Partition: -1, Change: ch}
				if _, err := c.Apply(batch, &r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
