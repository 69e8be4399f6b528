package hdfs

import (
	"context"
	"fmt"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/sinks/internal/avro"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/parquet"
)

// Type is the sink as plugins/builtin lists it.
func Type() connectors.SinkType {
	formats := files.Formats()
	formats["parquet"], formats["avro"] = parquet.New, avro.New
	return connectors.SinkType{
		Name: "hdfs",
		Spec: spec.Spec{
			Doc: "Writes topics as files into HDFS: <url>/<topic>/<partition folders>/<topic>+<partition>+<first offset>+<last offset>.<format>. " +
				"A file appears when it is complete and holds each record once, whatever is killed meanwhile. It speaks HDFS's own protocol; no Java is needed.",
			Fields: append(append([]spec.Field{{
				Name: "url", Type: spec.String, Required: true, Example: "hdfs://namenode:8020/lake", Check: checkURL,
				Doc: "The folder: hdfs://[user@]namenode[:8020][,second:8020]/folder. It is made when it is missing. Of several namenodes the active one is found. " +
					"The user is $HADOOP_USER_NAME, or who runs Forebay, unless the url names one.",
			}}, files.Fields(formats)...), spec.Field{
				Name: "replication", Type: spec.Int, Default: "0", Check: checkReplication,
				Doc: "Copies of each block of new files; 0 means the namenode's default.",
			}, spec.Field{
				Name: "block_size", Type: spec.Size, Default: "0", Check: checkBlockSize,
				Doc: "Block size of new files; 0 means the namenode's default, or more if rotate.size needs it: a file that fits into one block is the safest to write.",
			}, spec.Field{
				Name: "datanode_hostnames", Type: spec.Bool, Default: "false",
				Doc: "Dials datanodes by name instead of by the address that the namenode knows; for datanodes behind NAT. Like dfs.client.use.datanode.hostname.",
			}),
		},
		New: func(cfg spec.Values, env connectors.Env) (connectors.Sink, error) { return newSink(cfg, env, formats) },
	}
}

func newSink(cfg spec.Values, env connectors.Env, formats map[string]files.FormatMaker) (connectors.Sink, error) {
	o, err := ParseURL(cfg.String("url"))
	if err != nil {
		return nil, err
	}
	c, err := files.ConfigOf(cfg, formats)
	if err != nil {
		return nil, err
	}
	o.Replication, o.BlockSize = int(cfg.Int("replication")), cfg.Size("block_size")
	o.FileSize = c.Rotate.Size
	o.UseDatanodeHostname = cfg.Bool("datanode_hostnames")
	return files.NewSink(c, env, func(context.Context) (files.Target, error) { return NewTarget(o), nil }), nil
}

func checkURL(v any) error {
	_, err := ParseURL(v.(string))
	return err
}

func checkReplication(v any) error {
	if n := v.(int64); n < 0 || n > 512 {
		return fmt.Errorf("%d is not between 0 and 512", n)
	}
	return nil
}

func checkBlockSize(v any) error {
	if n := int64(v.(spec.ByteSize)); n < 0 || n%512 != 0 || n > 0 && n < 1<<20 {
		return fmt.Errorf("%d bytes: HDFS wants at least 1MiB and a multiple of 512", n)
	}
	return nil
}
