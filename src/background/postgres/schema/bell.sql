CREATE TRIGGER fanfare_bell AFTER INSERT ON realtime.messages
FOR EACH ROW EXECUTE FUNCTION realtime.fanfare_ring();
