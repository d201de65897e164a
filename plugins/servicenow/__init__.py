"""ServiceNow: deliveries of business rules and flows in, Table, Attachment, Batch and CMDB APIs out."""
