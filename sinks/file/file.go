// Package file is the sink that leaves the log's records behind as files in a
// local directory, exactly once: see sinks/internal/files for how.
package file

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"context"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/vfs"
	"github.com/forebayhub/forebay/sinks/internal/avro"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/parquet"
)

// Type is the sink as plugins/builtin lists it.
func Type() connectors.SinkType {
	formats := files.Formats()
	formats["parquet"], formats["avro"] = parquet.New, avro.New
	return connectors.SinkType{
		Name: "file",
		Spec: spec.Spec{
			Doc: "Writes topics as files into a local directory: <url>/<topic>/<partition folders>/<topic>+<partition>+<first offset>+<last offset>.<format>. " +
				"A file appears when it is complete and holds each record once, whatever is killed meanwhile.",
			Fields: append([]spec.Field{{
				Name: "url", Type: spec.String, Required: true, Example: "file:///var/lib/lake", Check: checkURL,
				Doc: "The directory, as a path or a file:// URL; it is made when it is missing.",
			}}, files.Fields(formats)...),
		},
		New: func(cfg spec.Values, env connectors.Env) (connectors.Sink, error) {
			dir, err := directory(cfg.String("url"))
			if err != nil {
				return nil, err
			}
			c, err := files.ConfigOf(cfg, formats)
			if err != nil {
				return nil, err
			}
			return files.NewSink(c, env, func(context.Context) (files.Target, error) {
				return files.NewLocal(vfs.Disk{}, dir), nil
			}), nil
		},
	}
}

func checkURL(v any) error {
	_, err := directory(v.(string))
	return err
}

// directory is the absolute path that a url or path means.
func directory(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", fmt.Errorf("an empty directory name")
	}
	scheme, _, ok := strings.Cut(text, "://")
	if !ok {
		return filepath.Abs(strings.TrimPrefix(text, "file:"))
	}
	if scheme != "file" {
		return "", fmt.Errorf("%s is no file:// URL; for hdfs:// use type hdfs", text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if u.Host != "" && u.Host != "localhost" {
		return "", fmt.Errorf("%s names the host %s: write file:///%s%s with three slashes", text, u.Host, u.Host, u.Path)
	}
	if u.Path == "" {
		return "", fmt.Errorf("%s names no directory", text)
	}
	return filepath.Clean(u.Path), nil
}
