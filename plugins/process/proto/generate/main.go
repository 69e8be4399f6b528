// Command generate writes the Go code of plugin.proto without protoc: `go generate ./plugins/process/proto`.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// The generators: the first is of the version in go.mod, the second has a module of its own.
var generators = [][]string{
	{"go", "run", "google.golang.org/protobuf/cmd/protoc-gen-go"},
	{"go", "run", "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2"},
}

func main() {
	if err := run("plugin.proto"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(name string) error {
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}, SourceInfoMode: protocompile.SourceInfoStandard}
	files, err := c.Compile(context.Background(), name)
	if err != nil {
		return err
	}
	parameter := "paths=source_relative"
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{FileToGenerate: []string{name}, Parameter: &parameter,
		ProtoFile: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(files[0])}})
	if err != nil {
		return err
	}
	for _, g := range generators {
		cmd := exec.Command(g[0], g[1:]...)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%v: %w", g, err)
		}
		var response pluginpb.CodeGeneratorResponse
		if err := proto.Unmarshal(out, &response); err != nil {
			return err
		}
		if response.Error != nil {
			return fmt.Errorf("%v: %s", g, response.GetError())
		}
		for _, f := range response.File {
			if err := os.WriteFile(f.GetName(), []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
