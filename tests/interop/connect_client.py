"""What kafka-connect-py, a client for Kafka Connect's REST API, does to a connector of the node at argv[1] that reads the file argv[2]: its whole list.
Ends with 1 and a line at the first surprise."""
import sys
import time

from kafka_connect.kafka_connect import KafkaConnect

client = KafkaConnect(url=f"http://{sys.argv[1]}")
config = {"connector.class": "tail", "paths": sys.argv[2], "topic": "lines"}


def check(ok, what):
    if not ok:
        print("wrong:", what)
        sys.exit(1)


def state(want):
    deadline = time.monotonic() + 60
    while True:
        status = client.get_connector_status("lines")
        if status["connector"]["state"] == want and all(t["state"] == want for t in status["tasks"]):
            return status
        check(time.monotonic() < deadline, f"{status} instead of {want}")
        time.sleep(0.05)


check(client.get_cluster_info()["kafka_cluster_id"], "no cluster id")
check({"class", "type", "version"} <= set(client.list_connector_plugins()[0]), client.list_connector_plugins()[0])
check(client.validate_connector_config("tail", config | {"name": "lines"})["error_count"] == 0, "a right config is refused")
refused = client.validate_connector_config("tail", {"connector.class": "tail", "name": "lines", "topc": "lines"})
errors = {c["value"]["name"]: c["value"]["errors"] for c in refused["configs"] if c["value"]["errors"]}
check(set(errors) == {"paths", "topc"} and refused["error_count"] == 2, errors)

check(client.create_connector({"name": "lines", "config": config})["name"] == "lines", "create")
state("RUNNING")
check(client.list_connectors() == ["lines"], client.list_connectors())
check(client.list_connectors(expand="status", state="running").keys() == {"lines"}, "list by state")
check(client.get_connector("lines")["type"] == "source", client.get_connector("lines"))
check(client.get_connector_config("lines")["paths"] == sys.argv[2], client.get_connector_config("lines"))
check(client.list_connector_tasks("lines")[0]["id"] == {"connector": "lines", "task": 0}, client.list_connector_tasks("lines"))
check(client.get_connector_task_status("lines", 0)["state"] == "RUNNING", "the task's status")
client.pause_connector("lines")
state("PAUSED")
client.resume_connector("lines")
state("RUNNING")
client.restart_connector("lines")
check(client.restart_connector("lines", include_tasks=True)["name"] == "lines", "restart with tasks")
state("RUNNING")
client.restart_connector_task("lines", 0)
state("RUNNING")
check(client.list_connector_topics("lines")["lines"]["topics"] == ["lines"], client.list_connector_topics("lines"))
client.reset_connector_topics("lines")
check(client.list_connector_topics("lines")["lines"]["topics"] == [], client.list_connector_topics("lines"))
check(client.update_connector("lines", config | {"max_line": "2MiB"})["config"]["max_line"] == "2MiB", "update")
client.stop_connector("lines")
check(state("STOPPED")["tasks"] == [], "tasks of what is stopped")
client.delete_connector("lines")
check(client.list_connectors() == [], client.list_connectors())
print("ok")
