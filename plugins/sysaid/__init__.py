"""SysAid: escalation rules' deliveries in, REST out."""
