"""ServiceNow: business rules' signed or shared-secret deliveries in, Table API out."""
