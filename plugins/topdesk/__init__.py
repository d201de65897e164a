"""TOPdesk: action sequences' deliveries in, REST out."""
